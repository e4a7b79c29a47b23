"""Policies fused with a corrector into one safetensors file, which NumPy runs: all baselines, and what has no words."""

import numpy as np
import pytest
import torch
from torch import nn

from baselines.checkpoints import CHECKPOINTS, box_task
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.policy import FunctionPolicy, NormalizedPolicy, Policy, act
from cdsa_lightning.errors import InputError
from cdsa_lightning.export import export, subject
from cdsa_lightning.registry import load_policy
from cdsa_lightning.runtime import NumpyPolicy
from cdsa_lightning.tasks import get_task
from evaluation_files import write_corrector
from known_networks import ACTION, OBS
from measured_correctors import measured_corrector, questions

LOW, HIGH = [-1.0] * ACTION, [1.0] * ACTION
STEP = Coefficients(k1=1.0, units="sigma2", a2="off")
FUSED = sorted(set(CHECKPOINTS) - {"onnx", "random", "shortest_path"})  # in onnxruntime, by chance, of one world


@pytest.mark.parametrize("name", FUSED)
def test_every_baseline_that_becomes_a_graph_acts_in_numpy_as_in_torch(tmp_path, name):
    task = box_task(OBS, LOW, HIGH)
    policy, corrector = load_policy(name, CHECKPOINTS[name](tmp_path, task), task), measured_corrector(2)
    row, (obs, _) = policy.num_seeds - 1, questions(300)
    made = export(subject(corrector, STEP, 1, policy, row, name), "safetensors", tmp_path / "p.safetensors")
    with torch.no_grad():
        base = act(policy, obs.expand(policy.num_seeds, -1, -1))[row]
        wanted = corrector.select(1)(obs[None], base[None], STEP)[0]
    assert np.abs(wanted - base).max() > 0.01  # it corrects
    found = NumpyPolicy(made.path).act(obs.numpy())
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert found.dtype == np.float32 and made.parity.observations == 1000


def test_the_shortest_path_is_fused_as_well(tmp_path):
    corrector = load_corrector(write_corrector(tmp_path / "c.safetensors"))
    policy, obs = load_policy("shortest_path", None, get_task("risky-pointmass")), torch.rand(200, 4)
    made = export(subject(corrector, STEP, 0, policy), "safetensors", tmp_path / "p.safetensors")
    wanted = corrector.select(0)(obs[None], policy(obs)[None], STEP)[0]
    np.testing.assert_allclose(NumpyPolicy(made.path).act(obs), wanted, atol=1e-6)


def test_unbounded_actions_stay_unbounded(tmp_path):
    far = [float("inf")] * ACTION
    policy = NormalizedPolicy(nn.Linear(OBS, ACTION), [-f for f in far], far, torch.zeros(OBS), torch.ones(OBS))
    corrector, obs = measured_corrector(1, float("inf")), 1e3 * questions(5)[0]
    made = export(subject(corrector, STEP, 0, policy), "safetensors", tmp_path / "p.safetensors")
    wanted = corrector(obs[None], policy(obs)[None], STEP)[0].detach()
    assert wanted.abs().max() > 100
    np.testing.assert_allclose(NumpyPolicy(made.path).act(obs), wanted, rtol=1e-5)


class Counts(Policy):
    """Changes its own buffer."""

    def __init__(self):
        super().__init__(LOW, HIGH)
        self.register_buffer("asked", torch.zeros(ACTION))

    def forward(self, obs):
        self.asked.add_(1)
        return self.clip(obs[..., :ACTION] + self.asked)


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (FunctionPolicy(lambda obs: obs[:, :2].softmax(-1), LOW, HIGH), "uses aten.softmax.int"),
        (FunctionPolicy(lambda obs: obs[:, :2].cumsum(-1), LOW, HIGH), "uses aten.cumsum.default"),
        (FunctionPolicy(lambda obs: obs[:, :2] - obs.mean(), LOW, HIGH), "uses aten.mean.default"),
        (FunctionPolicy(lambda obs: obs[:, :2] - obs[:, :2].mean(0), LOW, HIGH), "uses aten.mean.dim"),
        (FunctionPolicy(lambda obs: obs[:, :2] - obs[:1, :2], LOW, HIGH), "uses aten.slice.Tensor"),
        (FunctionPolicy(lambda obs: obs[:, :2].flip(0), LOW, HIGH), "uses aten.flip.default"),
        (FunctionPolicy(lambda obs: obs[:, :2].long().float(), LOW, HIGH), "uses aten.*to"),
        (FunctionPolicy(lambda obs: torch.zeros_like(obs[:, :2]), LOW, HIGH), "uses aten.(zeros|full)_like"),
        (Counts(), "changes its own buffers"),
    ],
)
def test_what_the_list_has_no_words_for_is_told_with_the_alternatives(tmp_path, policy, text):
    made = subject(measured_corrector(), STEP, policy=policy)  # what mixes rows, and what is no function, among it
    with pytest.raises(InputError, match=f"The policy ({text}).*Use --format onnx, torchscript or pt2, or export the"):
        export(made, "safetensors", tmp_path / "p.safetensors")
    assert not list(tmp_path.iterdir())
