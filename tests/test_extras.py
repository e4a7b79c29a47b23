"""Every extra of pyproject.toml: without its packages, what needs them says in one sentence how to install them."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from cdsa_lightning.cli import main
from cdsa_lightning.errors import InputError

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
IMPORTED_AS = {"prometheus-client": "prometheus_client", "stable-baselines3": "stable_baselines3"}


def publish(folder):
    from cdsa_lightning.dashboard.publish import publish

    publish(None)


def read_onnx(folder):
    from cdsa_lightning.registry import load_policy
    from cdsa_lightning.tasks import get_task

    (folder / "policy.onnx").write_bytes(b"any")
    load_policy("onnx", folder / "policy.onnx", get_task("risky-pointmass"))


def run_onnx(folder):
    from cdsa_lightning.runtime import OnnxCorrector

    OnnxCorrector(folder / "corrector.onnx")


def export(folder):
    from cdsa_lightning.export.onnx import build

    build(None)


def metrics(folder):
    from cdsa_lightning.prometheus import _core

    _core()


def distribute(folder):
    from cdsa_lightning.grid.ray import RayExecutor

    RayExecutor()


def search(folder):
    from cdsa_lightning.tuning.storage import find_optuna

    find_optuna()


ROWS = [
    ("dashboard", "wandb_workspaces", publish),
    ("onnx", "onnx", read_onnx),
    ("onnx", "onnxruntime", read_onnx),
    ("onnx", "onnxruntime", run_onnx),
    ("export", "onnx", export),
    ("export", "onnxscript", export),
    ("prometheus", "prometheus_client", metrics),
    ("ray", "ray", distribute),
    ("tune", "optuna", search),
]
"""(extra, package that is missing, what needs it)."""

NEEDS_NOTHING = {"dev", "docs", "sb3"}
"""Extras for those who work on the project: no file of the packages imports what they bring and others do not."""


def hide(monkeypatch, package):
    loaded = [name for name in sys.modules if name.partition(".")[0] == package]
    for name in {package, *loaded}:
        monkeypatch.setitem(sys.modules, name, None)


def imported_packages():
    """Top-level names of all that the packages import."""
    for folder in (ROOT / "cdsa_lightning", ROOT / "baselines"):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module.partition(".")[0]


def packages(extra):
    names = (re.match(r"[\w-]+", requirement)[0] for requirement in EXTRAS[extra])
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def test_every_extra_has_its_row():
    rows = {extra for extra, _, _ in ROWS}
    assert rows | NEEDS_NOTHING == set(EXTRAS)
    brought = set().union(*(packages(extra) for extra in rows))
    used = set(imported_packages())
    for extra in NEEDS_NOTHING:
        assert not (packages(extra) - brought) & used, extra


@pytest.mark.parametrize(("extra", "package", "use"), ROWS)
def test_a_missing_extra_is_named_with_its_install_line(monkeypatch, tmp_path, extra, package, use):
    assert package in packages(extra)
    hide(monkeypatch, package)
    with pytest.raises(InputError, match=rf"pip install ['\"]cdsa-lightning\[{extra}\]['\"]"):
        use(tmp_path)


def test_on_the_command_line_that_is_status_2(monkeypatch, tmp_path, capsys):
    hide(monkeypatch, "onnx")
    (tmp_path / "policy.onnx").write_bytes(b"any")
    words = ["evaluate", "--baseline", "onnx", "--checkpoint", str(tmp_path / "policy.onnx")]
    assert main([*words, "--task", "risky-pointmass", "--runs", str(tmp_path)]) == 2
    assert "pip install 'cdsa-lightning[onnx]'" in capsys.readouterr().err
