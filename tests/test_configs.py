"""Every configuration trains through the command, and says only what differs from the defaults."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from cdsa_lightning.checkpoints import read_checkpoint
from cdsa_lightning.cli import main
from cdsa_lightning.data import TransitionData
from cdsa_lightning.presets import PRESETS
from cdsa_lightning.tasks import get_task
from cdsa_lightning.training import CDSAModule

FOLDER = Path(__file__).parents[1] / "configs"
GRIDS = [path for path in sorted(FOLDER.rglob("*.yaml")) if "tasks" in yaml.safe_load(path.read_text())]
"""Of `cdsa benchmark`; tests/grid/ expands them."""
CONFIGS = [path for path in sorted(FOLDER.rglob("*.yaml")) if path not in GRIDS]
DEFAULT_MODEL = f"{CDSAModule.__module__}.{CDSAModule.__name__}"
DEFAULT_DATA = f"{TransitionData.__module__}.{TransitionData.__name__}"
FIT_DEFAULTS = {"max_steps": 10_000, "log_every_n_steps": 100, "enable_model_summary": False}  # over Lightning's


def ids(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def defaults(function: Any) -> dict[str, Any]:
    return {name: item.default for name, item in inspect.signature(function).parameters.items()}


def restated(config: dict[str, Any]) -> list[str]:
    """The keys of a configuration whose values would be the same without it."""
    model = config.get("model", {})
    found, class_path = [], model.get("class_path", DEFAULT_MODEL)
    if "class_path" in model and class_path in (DEFAULT_MODEL, CDSAModule.__name__):
        found.append("model.class_path")
    module, _, name = class_path.rpartition(".")
    base = defaults(getattr(import_module(module), name) if module else CDSAModule)
    settings = model.get("init_args", {})
    preset = PRESETS[settings.get("preset", "paper")]
    for key, value in settings.items():
        inherited = getattr(preset, key, getattr(preset.networks, key, None)) if base.get(key) is None else base[key]
        inherited = list(inherited) if isinstance(inherited, tuple) else inherited
        if value == inherited:
            found.append(f"model.init_args.{key}")
    data = config.get("data", {})
    module, _, name = data.get("class_path", DEFAULT_DATA).rpartition(".")
    known = defaults(getattr(import_module(module), name)) | {"class_path": DEFAULT_DATA}
    parts = [("data", known, {key: value for key, value in data.items() if key != "init_args"})]
    parts += [("data", known, data.get("init_args", {}))]
    parts += [("trainer", defaults(Trainer) | FIT_DEFAULTS, config.get("trainer", {}))]
    return found + [
        f"{part}.{key}" for part, base, given in parts for key, value in given.items() if value == base[key]
    ]


@pytest.mark.parametrize("path", CONFIGS, ids=ids)
def test_a_configuration_says_only_what_differs(path):
    assert restated(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"model": {"class_path": "CDSAModule"}}, "model.class_path"),
        ({"model": {"init_args": {"preset": "paper"}}}, "model.init_args.preset"),
        ({"model": {"init_args": {"preset": "robust", "state_sigma": 0.1}}}, "model.init_args.state_sigma"),
        ({"model": {"init_args": {"action_sigmas": [1.0]}}}, "model.init_args.action_sigmas"),
        ({"data": {"task": "hopper-random", "batch_size": 256}}, "data.batch_size"),
        ({"data": {"class_path": "cdsa_lightning.data.TransitionData"}}, "data.class_path"),
        ({"data": {"class_path": "cdsa_lightning.replay.ReplayData", "init_args": {"envs": 1}}}, "data.envs"),
        ({"trainer": {"max_steps": 10_000}}, "trainer.max_steps"),
    ],
)
def test_a_restated_default_is_found(config, key):
    assert restated(config) == [key]


def test_the_defaults_of_the_command_are_those_compared_with(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--data.task", "hopper-random", "--print_config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert {key: shown["trainer"][key] for key in FIT_DEFAULTS} == FIT_DEFAULTS
    assert shown["model"]["class_path"] == DEFAULT_MODEL


def write_data(path: Path, task: str) -> Path:
    """A hundred random transitions of the shapes of a task."""
    rng, world = np.random.default_rng(0), get_task(task)
    obs = rng.normal(size=(101, world.obs_dim)).astype(np.float32)
    action = rng.uniform(world.low, world.high, size=(100, world.action_dim)).astype(np.float32)
    arrays = {"obs": obs[:-1], "next_obs": obs[1:], "actions": action, "rewards": rng.normal(size=100)}
    np.savez(path, terminals=np.zeros(100, bool), episode=np.arange(100) // 10, **arrays)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=ids)
def test_a_configuration_trains(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    data = yaml.safe_load(path.read_text()).get("data", {})
    task, online = data.get("task"), "replay" in data.get("class_path", "")
    wanted = task or ("risky-transportation" if path.stem == "sac_risky" else "hopper-random")
    named = [] if task else ["--data.task", wanted]
    npz = write_data(tmp_path / "data.npz", wanted)
    source = ["--data.random_steps", "20"] if online else ["--data.source", f"npz:{npz}"]
    options = [*source, "--data.batch_size", "8", "--trainer.max_steps", "20", "--wandb", "off"]
    assert main(["fit", "--config", str(path), *named, *options]) == 0
    (checkpoint,) = tmp_path.glob("runs/*/*/*/last.ckpt")
    assert read_checkpoint(checkpoint)["global_step"] == 20
    assert checkpoint.parents[2].name == wanted
