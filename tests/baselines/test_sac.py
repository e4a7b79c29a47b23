"""SAC: its updates against the papers' equations in plain PyTorch, its exploration and seeds, and a bandit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdsa_baselines.sac import SAC
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task
from training_data import TASK, train, write_npz

from .plain import adam_step, build_like, difference, follow, plain_mlp, record


@pytest.fixture
def npz(tmp_path):
    """Transitions of which some are terminal."""
    arrays = dict(np.load(write_npz(tmp_path / "data.npz")))
    arrays["terminals"] = np.arange(2000) % 7 == 6
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def draw(pi, s, z):
    """An action of pi(s) made of the standard normal numbers z, and its log-density."""
    mean, log_std = pi(s).chunk(2, 1)
    normal = torch.distributions.Normal(mean, log_std.clip(-20, 2).exp())
    u = normal.mean + normal.stddev * z
    return torch.tanh(u), (normal.log_prob(u) - torch.log(1 - torch.tanh(u) ** 2)).sum(1, keepdim=True)


@pytest.mark.parametrize(("entropy", "scale", "standardize"), [(None, 1.0, False), (0.5, 5.0, True)])
def test_updates_agree_with_the_equations_in_plain_torch(npz, tmp_path, entropy, scale, standardize):
    settings = {"hidden": 16, "lr": 1e-3, "target_rate": 0.05, "discount": 0.9, "reward_scale": scale}
    module = SAC(seeds=(0, 1), target_entropy=entropy, standardize_obs=standardize, **settings)
    steps = record(module)
    train(module, npz, 25, tmp_path / "run", precision="64-true")
    start, info = build_like(module), module.data_info
    high, mean, std = info.high[0], torch.tensor(info.obs_mean), torch.tensor(info.obs_std) + 1e-3
    for seed in range(2):
        q1, q2, slow_q1, slow_q2 = (plain_mlp(start.critic.net, row) for row in (seed, seed + 2, seed, seed + 2))
        pi, log_eta = plain_mlp(start.actor.net, seed), torch.zeros((), dtype=torch.float64, requires_grad=True)
        q_adam = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=1e-3)
        pi_adam, eta_adam = torch.optim.Adam(pi.parameters(), lr=1e-3), torch.optim.Adam([log_eta], lr=1e-3)
        for step in steps:
            s, a, s_next, r, d, z = step.of(seed)
            if standardize:
                s, s_next = (s - mean) / std, (s_next - mean) / std
            eta = log_eta.exp().detach()
            a_next, log_prob_next = draw(pi, s_next, z[:, 2:])
            pair = torch.cat([s_next, a_next], 1)
            value = torch.minimum(slow_q1(pair), slow_q2(pair)) - eta * log_prob_next
            y = (scale * r + 0.9 * (1 - d) * value).detach()
            pair = torch.cat([s, a / high], 1)
            critic_loss = 0.5 * ((q1(pair) - y) ** 2).mean() + 0.5 * ((q2(pair) - y) ** 2).mean()
            b, log_prob = draw(pi, s, z[:, :2])
            pair = torch.cat([s, b], 1)
            actor_loss = (eta * log_prob - torch.minimum(q1(pair), q2(pair))).mean()
            wanted_entropy = -2 if entropy is None else entropy
            temperature_loss = -(log_eta * (log_prob + wanted_entropy).detach()).mean()
            wanted = {"critic_loss": critic_loss, "actor_loss": actor_loss, "temperature_loss": temperature_loss}
            assert set(step.losses) == set(wanted)
            for name, loss in wanted.items():
                assert step.losses[name][seed].item() == pytest.approx(loss.item(), rel=1e-6, abs=1e-6), name
            for adam, loss in ((pi_adam, actor_loss), (eta_adam, temperature_loss), (q_adam, critic_loss)):
                adam_step(adam, loss)
            follow(slow_q1, q1, 0.05)
            follow(slow_q2, q2, 0.05)
        pairs = [(q1, module.critic.net, seed), (q2, module.critic.net, seed + 2), (pi, module.actor.net, seed)]
        pairs += [(slow_q1, module.target.net, seed), (slow_q2, module.target.net, seed + 2)]
        for plain, stacked, row in pairs:
            assert difference(plain, stacked, row) < 1e-6
        assert module.log_eta[seed].item() == pytest.approx(log_eta.item(), abs=1e-6)


def test_stacked_seeds_match_solo_training(npz, tmp_path):
    stacked = SAC(seeds=(3, 5), hidden=16, lr=1e-3)
    train(stacked, npz, 50, tmp_path / "stacked", precision="64-true")
    for row, seed in enumerate((3, 5)):
        solo = SAC(seeds=(seed,), hidden=16, lr=1e-3)
        train(solo, npz, 50, tmp_path / f"solo{seed}", precision="64-true")
        together = stacked.state_dict()
        for name, value in solo.state_dict().items():
            torch.testing.assert_close(together[name][row::2], value, atol=1e-6, rtol=0, msg=name)


def test_a_resumed_run_equals_an_undisturbed_one_exactly(npz, tmp_path):
    whole, first, second = (SAC(seeds=(0, 1), hidden=16) for _ in range(3))
    train(whole, npz, 40, tmp_path / "whole")
    train(first, npz, 24, tmp_path / "first")  # within a chunk of 10
    train(second, npz, 40, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.slow  # compiles
def test_the_compiled_update_equals_the_eager_one(npz, tmp_path):
    eager, compiled = (SAC(seeds=(0, 1), hidden=16, compile=flag) for flag in (False, True))
    train(eager, npz, 20, tmp_path / "eager")
    train(compiled, npz, 20, tmp_path / "compiled")
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-4, rtol=0, msg=name)


def bandit(tmp_path):
    rng = np.random.default_rng(0)
    obs, unit = rng.uniform(size=(4000, 4)), rng.uniform(-1, 1, size=(4000, 2))
    reward = -2 * ((unit - [0.5, -0.5]) ** 2).sum(-1)
    arrays = {"obs": obs, "next_obs": obs, "actions": 0.1 * unit, "rewards": reward, "episode": np.arange(4000)}
    np.savez(tmp_path / "bandit.npz", terminals=np.ones(4000, bool), **arrays)
    return tmp_path / "bandit.npz"


def test_it_learns_the_rewarded_action_and_the_entropy_asked_for(tmp_path):
    module = SAC(seeds=(0, 1), hidden=32, lr=5e-3, target_entropy=0.0)
    train(module, bandit(tmp_path), 600, tmp_path / "run", batch_size=64)
    obs = torch.rand(2, 200, 4)
    act = SAC.load(tmp_path / "run" / "last.ckpt", get_task(TASK))(obs)
    assert (act - torch.tensor([0.05, -0.05])).abs().mean() < 0.02
    with torch.no_grad():
        noise = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(0))
        entropy = -module.actor.squash(*module.actor.distribution(obs), noise)[1].mean((1, 2))
    torch.testing.assert_close(entropy, torch.zeros(2), atol=0.4, rtol=0)


def test_it_explores_with_draws_of_its_own_policy_in_environment_units(npz, tmp_path):
    module = SAC(seeds=(0, 1), hidden=16)
    train(module, npz, 20, tmp_path / "run")
    obs, noise = torch.rand(2, 5, 4), torch.randn(2, 5, 2)
    action = module.explore(obs, noise)
    for seed in range(2):
        wanted, _ = draw(plain_mlp(module.actor.net, seed).float(), obs[seed], noise[seed])
        torch.testing.assert_close(action[seed], 0.1 * wanted.detach(), atol=1e-6, rtol=0)
    assert not action.requires_grad
    torch.testing.assert_close(module.explore(obs, torch.zeros(2, 5, 2)), module.policy()(obs), atol=1e-6, rtol=0)


def test_the_statistics_of_the_data_do_not_matter(npz, tmp_path):
    module = SAC(seeds=(0,), hidden=16)
    train(module, npz, 20, tmp_path / "run")
    obs, noise = torch.rand(1, 5, 4), torch.randn(1, 5, 2)
    before = module.explore(obs, noise), module.policy()(obs)
    for numbers in (module.data_info.obs_mean, module.data_info.obs_std, module.data_info.action_std):
        numbers[:] = [7.0] * len(numbers)
    assert torch.equal(module.explore(obs, noise), before[0])
    assert torch.equal(module.policy()(obs), before[1])


def test_a_missing_checkpoint_names_the_command_that_makes_one():
    with pytest.raises(InputError, match=r"cdsa fit --config configs/baselines/sac.yaml --data.task risky-pointmass"):
        SAC.load(None, get_task(TASK))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"discount": 1.5}, "discount must lie between 0 and 1, got 1.5"),
        ({"target_rate": -0.1}, "target_rate must lie between 0 and 1, got -0.1"),
        ({"reward_scale": 0.0}, "reward_scale must be positive and finite, got 0.0"),
        ({"reward_scale": float("inf")}, "reward_scale must be positive and finite, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(InputError, match=text):
        SAC(**settings)
