"""Training: stacked seeds are solo seeds, resumed runs are undisturbed runs, two processes are one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cdsa_lightning.core.artifact import load_corrector, read_header
from cdsa_lightning.errors import InputError
from cdsa_lightning.training import CDSAModule
from training_data import TASK, train, write_npz


def weights(module: CDSAModule) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def npz(tmp_path_factory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "data.npz")


@pytest.mark.parametrize("preset", ["paper", "robust"])
def test_stacked_seeds_match_solo_training(npz, tmp_path, preset):
    # In double precision: in single, a unit whose sign hangs on the last bit may once take another step of Adam.
    seeds, levels = (0, 1, 2, 3, 4), 3 if preset == "robust" else 1
    sigmas = [0.4, 0.2, 0.1] if preset == "robust" else None
    stacked = CDSAModule(preset, action_sigmas=sigmas, seeds=seeds)
    train(stacked, npz, 300, tmp_path / "stacked", precision="64-true")
    for row, seed in enumerate(seeds):
        solo = CDSAModule(preset, action_sigmas=sigmas, seeds=[seed])
        train(solo, npz, 300, tmp_path / f"solo{seed}", precision="64-true")
        for name, value in weights(solo).items():
            if name.endswith(("weight", "bias")):
                own = weights(stacked)[name]
                rows = slice(row, None, len(seeds))  # level-major: this seed's row of every level
                assert own[rows].shape == value.shape, name
                torch.testing.assert_close(own[rows], value, atol=1e-6, rtol=0, msg=name)
        assert levels * len(seeds) == weights(stacked)["networks.action_score.layers.0.weight"].shape[0]


@pytest.mark.parametrize("stop", [100, 137])
def test_a_resumed_run_equals_an_undisturbed_one_exactly(npz, tmp_path, stop):
    whole = CDSAModule("robust", seeds=(0, 1))
    train(whole, npz, 300, tmp_path / "whole")
    first = CDSAModule("robust", seeds=(0, 1))
    first.schedule_steps = 300  # the cosine runs to the planned end, not to the interruption
    train(first, npz, stop, tmp_path / "first")
    second = CDSAModule("robust", seeds=(0, 1))
    trainer = train(second, npz, 300, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    assert trainer.global_step == 300
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name]), name


def test_the_compiled_update_equals_the_eager_one(npz, tmp_path):
    eager, compiled = CDSAModule("robust", seeds=(0, 1)), CDSAModule("robust", seeds=(0, 1), compile=True)
    train(eager, npz, 60, tmp_path / "eager")
    train(compiled, npz, 60, tmp_path / "compiled")
    for name, value in weights(eager).items():
        torch.testing.assert_close(weights(compiled)[name], value, atol=2e-5, rtol=0, msg=name)


def test_inner_steps_change_neither_the_number_of_steps_nor_the_end(npz, tmp_path):
    module = CDSAModule("paper", seeds=(0,), inner_steps=16)
    trainer = train(module, npz, 50, tmp_path)
    assert trainer.global_step == 50


def test_inverse_dynamics_of_a_known_world_are_learned(npz, tmp_path):
    module = CDSAModule("robust", seeds=(0, 1))
    train(module, npz, 1000, tmp_path, batch_size=128)
    nets = load_corrector(tmp_path / "corrector.safetensors").networks
    obs = torch.rand(500, 4)
    action = torch.empty(500, 2).uniform_(-0.1, 0.1)
    next_obs = obs.clone()
    next_obs[:, :2] += action
    s, _ = nets.standardize(obs.expand(2, -1, -1), action.expand(2, -1, -1))
    s_next, _ = nets.standardize(next_obs.expand(2, -1, -1), action.expand(2, -1, -1))
    error = (nets.predict_action(s, s_next) - action).square().mean()
    assert error < 0.1 * action.var()


def test_a_finished_run_leaves_a_corrector_with_its_origin(npz, tmp_path):
    module = CDSAModule("robust", seeds=(0, 1))
    train(module, npz, 50, tmp_path)
    header = read_header(tmp_path / "corrector.safetensors")
    assert (header["task"], header["preset"], header["num_seeds"], header["steps"]) == (TASK, "robust", 2, 50)
    assert header["fingerprint"] == module.data_info.fingerprint
    quantiles = load_corrector(tmp_path / "corrector.safetensors").noise_quantiles
    assert bool((quantiles.diff(dim=-1) >= 0).all()) and bool((quantiles[..., -1] > 0).all())


def test_a_preset_trains_the_sigmas_that_the_task_recommends(npz, tmp_path):
    module = CDSAModule("robust", seeds=[0])
    train(module, npz, 20, tmp_path)
    corrector = module.corrector()
    assert corrector.networks.settings.action_sigmas == (0.7,)
    assert corrector.schedule(corrector.coefficients)  # what it carries along was trained
    named = CDSAModule("robust", action_sigmas=[0.4], seeds=[0])
    train(named, npz, 20, tmp_path / "named")
    assert named.corrector().networks.settings.action_sigmas == (0.4,)


def test_two_gloo_processes_equal_one_with_the_joint_batch(npz, tmp_path):
    script = (
        "import sys, pathlib, torch\n"
        "from training_data import train\n"
        "from cdsa_lightning.training import CDSAModule\n"
        "npz, root, devices = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3])\n"
        "options = {'precision': '64-true'} | ({} if devices == 1 else {'strategy': 'ddp', 'devices': devices})\n"
        "train(CDSAModule('robust', seeds=(0, 1)), npz, 100, root, **options)\n"
    )
    file = tmp_path / "run.py"
    file.write_text(script)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    for devices in (1, 2):
        command = [sys.executable, str(file), str(npz), str(tmp_path / str(devices)), str(devices)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / n / "last.ckpt", weights_only=True) for n in ("1", "2"))
    assert one["global_step"] == two["global_step"] == 100
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, atol=1e-6, rtol=0, msg=name)


def test_a_checkpoint_of_another_algorithm_or_task_or_kind_is_refused(npz, tmp_path):
    from cdsa_baselines.iql import IQL

    train(CDSAModule("paper", seeds=(0,)), npz, 10, tmp_path)
    path = tmp_path / "last.ckpt"
    with pytest.raises(InputError, match="holds 'cdsa'.*corrector.safetensors beside it"):
        IQL.restore(path)
    with pytest.raises(InputError, match="trained on task 'risky-pointmass', not on 'hopper-medium'"):
        CDSAModule.restore(path, "hopper-medium")
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        CDSAModule.restore(broken)
    broken.write_text(json.dumps({"no": "checkpoint"}))
    with pytest.raises(InputError, match="not a checkpoint"):
        CDSAModule.restore(broken)


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "papr"},
        {"action_sigmas": [0.0]},
        {"state_sigma": -1.0},
        {"seeds": []},
        {"seeds": [1, 1]},
        {"predict": "x"},
        {"inner_steps": 0},
        {"lr_schedule": "linear"},
    ],
)
def test_settings_that_cannot_be_trained_are_refused(npz, tmp_path, settings):
    with pytest.raises(InputError):
        train(CDSAModule(**settings), npz, 10, tmp_path)
