"""docs/scaling.md: its commands are ones that `cdsa` takes, its script is a script, its manifest is YAML."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from cdsa_lightning.commands import benchmark

TEXT = (Path(__file__).parents[1] / "docs" / "scaling.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
(MANIFEST,) = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


def commands():
    """The words after `cdsa benchmark` wherever it is called."""
    joined = "\n".join([*SCRIPTS, yaml.safe_load(MANIFEST)["spec"]["entrypoint"]]).replace("\\\n", " ")
    return [shlex.split(words, comments=True) for words in re.findall(r"cdsa benchmark (.*)", joined)]


def test_every_script_is_one():
    for script in SCRIPTS:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words))
def test_every_command_is_understood(words, monkeypatch):
    seen = []
    monkeypatch.setattr("cdsa_lightning.commands.grids.benchmark", lambda options: seen.append(options) or 0)
    assert benchmark.main(words) == 0
    assert seen[0].executor == ("local" if "--dry_run" in words else "ray")


def test_head_and_workers_of_the_manifest_see_the_same():
    spec = yaml.safe_load(MANIFEST)["spec"]["rayClusterSpec"]
    head, worker = (group["template"]["spec"] for group in (spec["headGroupSpec"], spec["workerGroupSpecs"][0]))
    assert head["initContainers"] == worker["initContainers"]  # both need the data
    assert head["containers"][0]["image"] == worker["containers"][0]["image"]
    for pod in (head, worker):
        mounts = {mount["name"] for part in ("initContainers", "containers") for mount in pod[part][0]["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert yaml.safe_load(yaml.safe_load(MANIFEST)["spec"]["runtimeEnvYAML"])["env_vars"]
