"""Policies for export: one training seed taken out of several, and what cannot become a graph."""

import pytest
import torch
from torch import nn

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.policy import FunctionPolicy, NormalizedPolicy, Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.export import export, subject
from cdsa_lightning.export.single import exportable
from exported import clone
from known_networks import ACTION, OBS
from measured_correctors import measured_corrector, questions

LOW, HIGH = [-1.0] * ACTION, [1.0] * ACTION
STEP = Coefficients(k1=1.0, units="sigma2", a2="off")


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("seeds", [1, 3])
def test_one_seed_acts_as_it_did_among_the_others(seeds, layer_norm):
    policy, (obs, _) = clone(seeds, layer_norm), questions(40)
    among = policy(obs.expand(seeds, -1, -1)) if seeds > 1 else policy(obs)[None]
    for row in range(seeds):
        one = exportable(policy, "it", row, OBS)
        assert one.num_seeds == 1
        torch.testing.assert_close(one(obs), among[row], atol=1e-6, rtol=0)
    assert not torch.equal(among[0], among[-1]) or seeds == 1
    assert policy.num_seeds == seeds  # what was given stays as it was


class Own(Policy):
    """Two seeds, stacked in its own way."""

    num_seeds = 2

    def __init__(self):
        super().__init__(LOW, HIGH)
        self.register_buffer("gain", torch.tensor([0.1, 0.2]).view(2, 1, 1))

    def forward(self, obs):
        return self.clip(self.gain * obs[..., :ACTION])


class Noisy(Own):
    num_seeds, stochastic = 1, True


class Sums(nn.Module):
    """Decides by a value, which no trace can hold."""

    def forward(self, obs):
        return obs[:, :ACTION] * (0.5 if obs.sum() > 0 else -0.5)


def branching():
    return NormalizedPolicy(Sums(), LOW, HIGH, torch.zeros(OBS), torch.ones(OBS))


@pytest.mark.parametrize(
    ("policy", "row", "text"),
    [
        (lambda obs: obs, 0, "it is a function, no cdsa_lightning.Policy. Export the corrector alone"),
        (Noisy(), 0, "it draws random numbers.*Export the corrector alone"),
        (FunctionPolicy(lambda obs: obs[:, :2], LOW, HIGH, numpy=True), 0, "it computes in Python, outside torch"),
        (Own(), 1, "The 2 training seeds of it cannot be taken apart"),
        (clone(2), 2, "it has no training seed 2; it holds 2"),
    ],
)
def test_what_cannot_become_a_graph_is_told(policy, row, text):
    with pytest.raises(InputError, match=text):
        exportable(policy, "it", row, OBS)


def test_a_policy_that_branches_on_values_is_refused_by_every_format(tmp_path):
    made = subject(measured_corrector(), STEP, policy=branching(), name="sums")
    for name, path in (("pt2", tmp_path / "p.pt2"), ("safetensors", tmp_path / "p.safetensors")):
        with pytest.raises(InputError, match="The policy cannot become a graph"):
            export(made, name, path)
    with pytest.raises(InputError, match="does not compute what PyTorch computes"):
        export(made, "torchscript", tmp_path / "p.pt")
    assert not list(tmp_path.iterdir())


def test_a_policy_of_another_task_and_seeds_that_are_not_there_are_told():
    corrector = measured_corrector(2)
    wide = NormalizedPolicy(nn.Linear(OBS, 4), [-1.0] * 4, [1.0] * 4, torch.zeros(OBS), torch.ones(OBS))
    with pytest.raises(InputError, match="4 action entries, the corrector 2"):
        subject(corrector, STEP, policy=wide)
    far = NormalizedPolicy(nn.Linear(OBS, 2), [-9.0] * 2, [9.0] * 2, torch.zeros(OBS), torch.ones(OBS))
    with pytest.raises(InputError, match=r"acts in \[-9.0, -9.0\]"):
        subject(corrector, STEP, policy=far)
    with pytest.raises(InputError, match="no seed 2"):
        subject(corrector, STEP, 2)
    with pytest.raises(InputError, match="'mean', got 'median'"):
        subject(corrector, STEP, "median")
    with pytest.raises(InputError, match="trained at sigma 0.7"):
        subject(corrector, Coefficients(k1=1.0, schedule=(0.7,)))
