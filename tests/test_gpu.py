"""On a GPU chunks of steps are recorded once and replayed: the same numbers as eager steps. Run with: pytest -m gpu"""

from __future__ import annotations

import pytest
import torch

from cdsa_baselines.codac import CODAC
from cdsa_baselines.cql import CQL
from cdsa_baselines.iql import IQL
from cdsa_baselines.onestep import OneStep
from cdsa_baselines.por import POR
from cdsa_baselines.td3_bc import TD3BC
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.training import CDSAModule
from training_data import train, write_npz

pytestmark = pytest.mark.gpu

MODULES = {
    "cdsa": lambda: CDSAModule("robust", seeds=(0, 1), inner_steps=10),
    "iql": lambda: IQL(seeds=(0, 1), hidden=32),
    "td3_bc": lambda: TD3BC(seeds=(0, 1), hidden=32),
    "cql": lambda: CQL(seeds=(0, 1), hidden=32, samples=3, cloning_steps=15),
    "por": lambda: POR(seeds=(0, 1), hidden=32, action_hidden=32, variant="por_r", reward="raw"),
    "onestep": lambda: OneStep(
        "exponential", behavior_steps=20, critic_steps=20, policy_steps=20, hidden=32, seeds=(0, 1)
    ),
    "codac": lambda: CODAC(omega=1.0, automatic_entropy=True, seeds=(0, 1), hidden=32, samples=3, quantiles=8),
}


def states(module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "data.npz")


@pytest.mark.parametrize("name", MODULES)
def test_replayed_steps_equal_eager_ones(npz, tmp_path, name):
    eager, replayed = MODULES[name](), MODULES[name]()
    eager.cuda_graph = False
    train(eager, npz, 60, tmp_path / "eager", accelerator="gpu")
    train(replayed, npz, 60, tmp_path / "replayed", accelerator="gpu")
    assert replayed.updates.graphs and not eager.updates.graphs
    for key, value in states(eager).items():
        torch.testing.assert_close(states(replayed)[key], value, atol=1e-5, rtol=1e-5, msg=key)


@pytest.mark.parametrize("name", ["cdsa", "iql"])
def test_replayed_steps_equal_eager_ones_in_mixed_precision(npz, tmp_path, name):
    eager, replayed = MODULES[name](), MODULES[name]()
    eager.cuda_graph = False
    for module in (eager, replayed):
        train(module, npz, 60, tmp_path / str(module.cuda_graph), accelerator="gpu", precision="bf16-mixed")
    assert replayed.updates.graphs
    for key, value in states(eager).items():
        torch.testing.assert_close(states(replayed)[key], value, atol=1e-4, rtol=1e-3, msg=key)


@pytest.mark.parametrize("name", ["cdsa", "td3_bc"])
def test_replayed_runs_resume_within_a_chunk(npz, tmp_path, name):
    whole, first, second = MODULES[name](), MODULES[name](), MODULES[name]()
    train(whole, npz, 80, tmp_path / "whole", accelerator="gpu")
    first.schedule_steps = 80
    train(first, npz, 47, tmp_path / "first", accelerator="gpu")
    train(second, npz, 80, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt", accelerator="gpu")
    for key, value in states(whole).items():
        torch.testing.assert_close(states(second)[key], value, atol=1e-5, rtol=1e-5, msg=key)


def test_a_run_of_the_gpu_goes_on_on_the_cpu_and_its_results_are_read_there(npz, tmp_path):
    train(MODULES["cdsa"](), npz, 40, tmp_path / "gpu", accelerator="gpu")
    assert load_corrector(tmp_path / "gpu" / "corrector.safetensors").num_seeds == 2
    trainer = train(MODULES["cdsa"](), npz, 60, tmp_path / "cpu", ckpt_path=tmp_path / "gpu" / "last.ckpt")
    assert trainer.global_step == 60
