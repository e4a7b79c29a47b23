"""The example of baselines/README.md, to the letter: a distribution, installed by pip, found by the registry."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cdsa_lightning.registry import names

README = Path(__file__).parents[2] / "baselines" / "README.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def write_wheel(folder, project, module, source):
    """The wheel of a distribution with one module, as any build tool would write it; needs no network."""
    stem = f"{project['name'].replace('-', '_')}-{project['version']}"
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
        for group, points in project["entry-points"].items()
    ]
    requires = "".join(f"Requires-Dist: {name}\n" for name in project["dependencies"])
    files = {
        f"{module}.py": source,
        f"{stem}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{requires}"
        ),
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{stem}.dist-info/entry_points.txt": "".join(lines),
    }
    record = f"{stem}.dist-info/RECORD"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in {**files, record: "".join(f"{n},,\n" for n in [*files, record])}.items():
            wheel.writestr(name, content)
    return path


def run(*command, folder, site=None):
    """Run Python in `folder`, with `site` on the path of the child alone."""
    paths = [str(site)] if site else []
    # What this process can import, the child can too, however the test run was set up.
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *filter(None, sys.path)])}
    result = subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which pip has installed the example of the README."""
    folder = tmp_path_factory.mktemp("stranger")
    project = tomllib.loads(blocks("toml")[0])["project"]
    wheel = write_wheel(folder, project, "linear_baseline", blocks("python")[0])
    command = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    run(*command, "--target", str(folder / "site"), str(wheel), folder=folder)
    return folder / "site"


def test_a_strangers_package_is_found_and_loaded(site, tmp_path):
    assert "linear" not in names()
    fit_and_load = f"""
import numpy as np, torch
from linear_baseline import fit
rng = np.random.default_rng(0)
obs = rng.random((100, 4))
fit(obs, obs[:, 2:] - obs[:, :2], "linear.npz")
{blocks("python")[1]}
action = policy(torch.tensor([[.50, .50, .52, .47], [.9, .9, .1, .1]]))
print(type(policy).__module__, names(), action.double().numpy().round(3).tolist())
"""
    said = run("-c", fit_and_load, folder=tmp_path, site=site)
    assert said.startswith("linear_baseline ['")
    assert {"linear", *names()} <= set(re.findall(r"'(\w+)'", said))
    # Goal minus position, which is what was fitted, within the bounds of .1.
    assert said.strip().endswith("[[0.02, -0.03], [-0.1, -0.1]]")


def test_the_example_keeps_its_promise_of_40_lines():
    lines = blocks("python")[0].splitlines()
    assert len([line for line in lines if line]) <= 40
    assert max(map(len, lines)) <= 120


def test_the_example_says_what_it_needs(site, tmp_path):
    ask = """
from cdsa_lightning.errors import InputError
from cdsa_lightning.registry import load_policy
from cdsa_lightning.tasks import get_task
for checkpoint in (None, "missing.npz", "other.npz"):
    try:
        load_policy("linear", checkpoint, get_task("risky-pointmass"))
    except InputError as error:
        print(error)
"""
    np.savez(tmp_path / "other.npz", weight=np.ones((2, 11), np.float32), bias=np.ones(2, np.float32))
    none, missing, other = run("-c", ask, folder=tmp_path, site=site).splitlines()
    assert "needs a file written by linear_baseline.fit" in none
    assert "no checkpoint 'missing.npz'" in missing
    assert "cannot act on S=4" in other


def test_the_table_names_every_baseline_of_this_project():
    first_cells = re.findall(r"^\| (`[`\w, ]+`) \|", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    table = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    pyproject = tomllib.loads((README.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert table == set(pyproject["project"]["entry-points"]["cdsa.baselines"])
