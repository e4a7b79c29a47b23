"""One gradient step of SAC beside one of Stable-Baselines3's own `SAC.train()`: same weights, batch and noise.

Stable-Baselines3 steps the temperature, then the critics, then the actor, which so looks at critics that have moved;
here all three are taken at the same parameters. Temperature and critics, and the targets after them, are therefore
compared with its whole step, and the actor with a step in which its critics are held still. It runs in double
precision, and without the 1e-6 that it adds to 1 - tanh^2 under the logarithm.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cdsa_baselines.sac import SAC
from training_data import train, write_npz

from .checkpoints import BoxWorld
from .plain import build_like, difference, plain_mlp, record

pytestmark = pytest.mark.slow  # needs the extra that the message below names

RATES = {"lr": 1e-3, "target_rate": 0.05, "discount": 0.9}


@pytest.fixture
def sb3():
    """Stable-Baselines3, without which this comparison fails rather than passes unseen."""
    try:
        import stable_baselines3
    except ImportError as error:
        pytest.fail(f"SAC is compared with Stable-Baselines3: pip install 'cdsa-lightning[sb3]' ({error})")
    return stable_baselines3


@pytest.fixture
def ours(tmp_path):
    """A module after one step, and what that step was given and found."""
    arrays = dict(np.load(write_npz(tmp_path / "data.npz")))
    np.savez(tmp_path / "data.npz", **{**arrays, "terminals": np.arange(2000) % 7 == 6})
    module = SAC(seeds=(0,), hidden=16, **RATES)
    steps = record(module)
    train(module, tmp_path / "data.npz", 1, tmp_path / "run", precision="64-true", batch_size=128)
    return module, steps[0]


@pytest.fixture
def theirs(sb3, ours, monkeypatch):
    """Their agent with our first weights, about to meet our batch and our noise; what it logs is kept in `found`."""
    module, step = ours
    high = module.data_info.high[0]
    agent = sb3.SAC(
        "MlpPolicy",
        BoxWorld(obs_dim=4, low=(-high, -high), high=(high, high)),
        learning_rate=RATES["lr"],
        tau=RATES["target_rate"],
        gamma=RATES["discount"],
        policy_kwargs={"net_arch": [16, 16]},
        buffer_size=1,
        device="cpu",
    )
    agent.policy.double()
    agent.log_ent_coef.data = agent.log_ent_coef.data.double()
    agent.actor.action_dist.epsilon = 0.0
    give_weights(agent, build_like(module))

    s, a, s_next, r, d, noise = step.of(0)
    batch = sb3.common.type_aliases.ReplayBufferSamples(s, a / high, s_next, d, r)
    agent.replay_buffer = SimpleNamespace(sample=lambda *args, **kwargs: batch)
    agent.found = {}
    agent.set_logger(SimpleNamespace(record=lambda name, value, **kwargs: agent.found.update({name: value})))
    draws = list(noise.split(2, 1))
    monkeypatch.setattr("torch.distributions.normal._standard_normal", lambda *args, **kwargs: draws.pop(0))
    monkeypatch.setattr("stable_baselines3.common.policies.preprocess_obs", lambda obs, *args, **kwargs: obs)  # no cast
    return agent


@torch.no_grad()
def give_weights(agent, module):
    """Copy actor, critics and targets of seed 0."""
    *hidden, last = plain_mlp(module.actor.net, 0)
    layers = list(zip(agent.actor.latent_pi, hidden, strict=True))
    for critic in (agent.critic, agent.critic_target):
        for row, network in enumerate(critic.q_networks):
            layers += zip(network, plain_mlp(module.critic.net, row), strict=True)
    for own, given in layers:
        for param, value in zip(own.parameters(), given.parameters(), strict=True):
            param.copy_(value)
    for own, weight, bias in zip(heads(agent), last.weight.chunk(2), last.bias.chunk(2), strict=True):
        own.weight.copy_(weight)
        own.bias.copy_(bias)


def heads(agent):
    return agent.actor.mu, agent.actor.log_std


def actor_of(agent):
    """Their actor as one perceptron that gives mean and log-deviation."""
    last = torch.nn.Linear(16, 4, dtype=torch.float64)
    with torch.no_grad():
        last.weight.copy_(torch.cat([head.weight for head in heads(agent)]))
        last.bias.copy_(torch.cat([head.bias for head in heads(agent)]))
    return torch.nn.Sequential(*agent.actor.latent_pi, last)


def test_critics_targets_and_temperature_take_the_step_of_stable_baselines3(ours, theirs):
    module, step = ours
    theirs.train(1, 128)
    assert step.losses["critic_loss"].item() == pytest.approx(theirs.found["train/critic_loss"], abs=1e-9)
    assert step.losses["temperature_loss"].item() == pytest.approx(theirs.found["train/ent_coef_loss"], abs=1e-9)
    for row in range(2):
        assert difference(theirs.critic.q_networks[row], module.critic.net, row) < 1e-9
        assert difference(theirs.critic_target.q_networks[row], module.target.net, row) < 1e-9
    assert module.log_eta.item() == pytest.approx(theirs.log_ent_coef.item(), abs=1e-9)
    assert abs(module.log_eta.item()) > 1e-4


def test_the_actor_takes_the_step_of_stable_baselines3_before_critics_that_stand_still(ours, theirs, monkeypatch):
    module, step = ours
    monkeypatch.setattr(theirs.critic.optimizer, "step", lambda: None)
    theirs.train(1, 128)
    assert step.losses["actor_loss"].item() == pytest.approx(theirs.found["train/actor_loss"], abs=1e-9)
    assert difference(actor_of(theirs), module.actor.net, 0) < 1e-9
    assert difference(actor_of(theirs), build_like(module).actor.net, 0) > 1e-4
