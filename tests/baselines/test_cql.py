"""CQL: its updates against the paper's equations in plain PyTorch, its estimates, phases and seeds, and a bandit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cdsa_baselines._nets import Twins
from cdsa_baselines.cql import CQL, judge
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task
from training_data import TASK, train, write_npz

from .plain import adam_step, build_like, difference, follow, plain_mlp, record

SMALL = {"hidden": 16, "samples": 3}
ANTMAZE = {"lagrange_gap": 0.3, "max_backup": True, "reward": "ten_minus_five"}


@pytest.fixture
def npz(tmp_path):
    """Transitions of which some are terminal."""
    arrays = dict(np.load(write_npz(tmp_path / "data.npz")))
    arrays["terminals"] = np.arange(2000) % 7 == 6
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def gaussian(pi, s):
    """The distribution before tanh."""
    mean, log_std = pi(s).chunk(2, 1)
    return torch.distributions.Normal(mean, log_std.clip(-5, 2).exp())


def draw(pi, s, z):
    """An action of pi(s) made of the standard normal numbers z, and its log-density."""
    normal = gaussian(pi, s)
    a = torch.tanh(normal.mean + normal.stddev * z)
    return a, log_density(pi, s, a)


def log_density(pi, s, a):
    return (gaussian(pi, s).log_prob(torch.atanh(a)) - torch.log(1 - a**2)).sum(1, keepdim=True)


def at(q, s, a):
    return q(torch.cat([s, a], 1))


@pytest.mark.parametrize("variant", [{}, ANTMAZE], ids=["mujoco", "antmaze"])
def test_updates_agree_with_the_equations_in_plain_torch(npz, tmp_path, variant):
    module = CQL(
        seeds=(0, 1), alpha=2.0, lr=1e-3, policy_lr=2e-3, target_rate=0.05, cloning_steps=9, **SMALL, **variant
    )
    steps = record(module)
    train(module, npz, 25, tmp_path / "run", precision="64-true")
    start, info, n = build_like(module), module.data_info, 3
    mean, std = torch.tensor(info.obs_mean).double(), torch.tensor(info.obs_std).double() + 1e-3
    for seed in range(2):
        q1, q2, slow_q1, slow_q2 = (plain_mlp(start.critic.net, row) for row in (seed, seed + 2, seed, seed + 2))
        pi = plain_mlp(start.actor.net, seed)
        log_eta, log_alpha = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
        q_adam = torch.optim.Adam([*q1.parameters(), *q2.parameters()], lr=1e-3)
        pi_adam, eta_adam = torch.optim.Adam(pi.parameters(), lr=2e-3), torch.optim.Adam([log_eta], lr=2e-3)
        alpha_adam = torch.optim.Adam([log_alpha], lr=1e-3)
        for number, step in enumerate(steps):
            s, a, s_next, r, d, noise = step.of(seed)
            s, s_next, a, z = (s - mean) / std, (s_next - mean) / std, a / info.high[0], noise.split(2, 1)
            backups = n if variant else 1
            of_policy, of_backup, of_chance = z[0], z[1 : 1 + backups], z[1 + backups : 1 + backups + n]
            of_here, of_next = z[1 + backups + n : -n], z[-n:]

            bests = []
            for slow in (slow_q1, slow_q2):
                values = [at(slow, s_next, draw(pi, s_next, own)[0]) for own in of_backup]
                bests.append(torch.stack(values).max(0).values)
            y = ((10 * r - 5 if variant else r) + 0.99 * (1 - d) * torch.minimum(*bests)).detach()
            others = [(torch.erf(own / math.sqrt(2)), torch.full_like(r, math.log(1 / 2**2))) for own in of_chance]
            others += [draw(pi, s, own) for own in of_here] + [draw(pi, s_next, own) for own in of_next]
            critic_loss, gaps = 0, []
            for q in (q1, q2):
                critic_loss += ((at(q, s, a) - y) ** 2).mean()
                weighed = torch.stack([at(q, s, b.detach()) - log_p.detach() for b, log_p in others])
                gaps.append((torch.logsumexp(weighed, 0) - at(q, s, a)).mean())
            conservative_loss = 2.0 * sum(gaps)
            wanted = {"critic_loss": critic_loss}
            if variant:
                excess = 2.0 * (sum(gaps) - 2 * 0.3)
                conservative_loss = log_alpha.exp().detach() * excess
                wanted["multiplier_loss"] = -log_alpha.exp() * excess.detach() / 2
            b, log_prob = draw(pi, s, of_policy)
            merit = log_density(pi, s, a) if number < 9 else torch.minimum(at(q1, s, b), at(q2, s, b))
            wanted["policy_loss"] = (log_eta.exp().detach() * log_prob - merit).mean()
            wanted["temperature_loss"] = -(log_eta * (log_prob - 2).detach()).mean()
            wanted["conservative_loss"] = conservative_loss
            assert set(step.losses) == set(wanted)
            for name, loss in wanted.items():
                assert float(step.losses[name][seed]) == pytest.approx(loss.item(), rel=1e-6, abs=1e-6), name
            adam_step(pi_adam, wanted["policy_loss"])
            adam_step(eta_adam, wanted["temperature_loss"])
            if variant:
                adam_step(alpha_adam, wanted["multiplier_loss"])
            adam_step(q_adam, critic_loss + conservative_loss)
            follow(slow_q1, q1, 0.05)
            follow(slow_q2, q2, 0.05)
        pairs = [(q1, module.critic.net, seed), (q2, module.critic.net, seed + 2), (pi, module.actor.net, seed)]
        pairs += [(slow_q1, module.target.net, seed), (slow_q2, module.target.net, seed + 2)]
        for plain, stacked, row in pairs:
            assert difference(plain, stacked, row) < 1e-6
        assert module.log_eta[seed].item() == pytest.approx(log_eta.item(), abs=1e-6)
        if variant:
            assert module.log_multiplier[seed].item() == pytest.approx(log_alpha.item(), abs=1e-6)


def random_batch(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.rand(2, 1, rows, 4, generator=generator)
    action = 0.2 * torch.rand(1, rows, 2, generator=generator) - 0.1
    return Batch(obs, action, next_obs, torch.zeros(1, rows, 1), torch.zeros(1, rows, 1))


def test_the_sampled_logsumexp_estimates_the_integral_over_the_action_box(npz, tmp_path):
    module = CQL(seeds=(0,), alpha=1.0, hidden=16, samples=3000)
    train(module, npz, 1, tmp_path / "run", batch_size=4)
    with torch.no_grad():
        module.critic.net.layers[-1].weight.zero_()
        module.critic.net.layers[-1].bias.fill_(1.5)
    noise = torch.randn(1, 4, module.noise_dim, generator=torch.Generator().manual_seed(0))
    loss = module.losses(random_batch(4), noise)["conservative_loss"]
    # Twins of Q = 1.5: log of the mean of exp(1.5) / p over 9000 samples is 1.5 + log of the volume 2^2.
    assert loss.item() / 2 + 1.5 - math.log(9000) == pytest.approx(1.5 + 2 * math.log(2), abs=0.05)


def test_judging_in_pieces_changes_no_value():
    twins = Twins((6, 16, 1), init_generators((0, 1))).double()
    obs, actions = torch.rand(2, 70, 4).double(), torch.rand(2, 70, 100, 2).double()  # 7000 rows: several pieces
    values = judge(twins, obs, actions)
    for row in (0, 29, 69):
        pairs = torch.cat((obs[:, row : row + 1].expand(-1, 100, -1), actions[:, row]), -1)
        torch.testing.assert_close(values[:, :, row], twins(pairs).squeeze(-1), atol=1e-12, rtol=0)


def test_the_policy_clones_until_its_steps_are_over_and_then_follows_the_critics(npz, tmp_path):
    module = CQL(seeds=(0, 1), cloning_steps=7, **SMALL)
    losses, phases = module.losses, []
    module.losses = lambda batch, noise: (phases.append(float(module.cloning)), losses(batch, noise))[1]
    train(module, npz, 12, tmp_path / "run")
    assert phases == [1.0] * 7 + [0.0] * 5
    phases.clear()
    module = CQL(seeds=(0, 1), cloning_steps=0, **SMALL)
    losses = module.losses
    module.losses = lambda batch, noise: (phases.append(float(module.cloning)), losses(batch, noise))[1]
    train(module, npz, 3, tmp_path / "never")
    assert phases == [0.0] * 3


@pytest.mark.parametrize("variant", [{}, ANTMAZE], ids=["mujoco", "antmaze"])
def test_stacked_seeds_match_solo_training(npz, tmp_path, variant):
    settings = {**SMALL, **variant, "cloning_steps": 20, "policy_lr": 1e-3}
    stacked = CQL(seeds=(3, 5), **settings)
    train(stacked, npz, 50, tmp_path / "stacked", precision="64-true")
    for row, seed in enumerate((3, 5)):
        solo = CQL(seeds=(seed,), **settings)
        train(solo, npz, 50, tmp_path / f"solo{seed}", precision="64-true")
        together = stacked.state_dict()
        for name, value in solo.state_dict().items():
            own = together[name][row::2] if value.ndim else together[name]
            torch.testing.assert_close(own, value, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("stop", [11, 24])  # while the policy clones, and after; both within a chunk of 10
def test_a_resumed_run_equals_an_undisturbed_one_exactly(npz, tmp_path, stop):
    whole, first, second = (CQL(seeds=(0, 1), cloning_steps=15, **SMALL, **ANTMAZE) for _ in range(3))
    train(whole, npz, 40, tmp_path / "whole")
    train(first, npz, stop, tmp_path / "first")
    train(second, npz, 40, tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.slow  # a long graph to compile
def test_the_compiled_update_equals_the_eager_one(npz, tmp_path):
    eager, compiled = (CQL(seeds=(0, 1), cloning_steps=9, compile=flag, **SMALL, **ANTMAZE) for flag in (False, True))
    train(eager, npz, 20, tmp_path / "eager")
    train(compiled, npz, 20, tmp_path / "compiled")
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, atol=1e-4, rtol=0, msg=name)


def write_bandit(path, low, reward):
    """Episodes of one step, with actions between `low` and the upper bound, and `reward` of actions in [-1, 1]."""
    rng = np.random.default_rng(0)
    obs, unit = rng.uniform(size=(4000, 4)), rng.uniform(low, 1, size=(4000, 2))
    arrays = {"obs": obs, "next_obs": obs, "actions": 0.1 * unit, "rewards": reward(unit), "episode": np.arange(4000)}
    np.savez(path, terminals=np.ones(4000, bool), **{key: np.asarray(value) for key, value in arrays.items()})
    return path


def test_it_learns_the_rewarded_action(tmp_path):
    npz = write_bandit(tmp_path / "bandit.npz", -1, lambda unit: -((unit - [0.5, -0.5]) ** 2).sum(-1))
    module = CQL(seeds=(0, 1), hidden=32, samples=4, alpha=0.5, cloning_steps=50, lr=2e-3, policy_lr=2e-3)
    train(module, npz, 400, tmp_path / "run", batch_size=64)
    act = CQL.load(tmp_path / "run" / "last.ckpt", get_task(TASK))(torch.rand(2, 200, 4))
    assert (act - torch.tensor([0.05, -0.05])).abs().mean() < 0.02


@pytest.mark.parametrize(("alpha", "stays"), [(0.0, False), (5.0, True)])
def test_the_conservative_term_keeps_the_policy_among_the_data(tmp_path, alpha, stays):
    npz = write_bandit(tmp_path / "half.npz", 0, lambda unit: -unit.sum(-1))  # tempts to leave on the left
    module = CQL(seeds=(0, 1), hidden=32, samples=4, alpha=alpha, cloning_steps=0, lr=2e-3, policy_lr=2e-3)
    train(module, npz, 300, tmp_path / "run", batch_size=64)
    act = CQL.load(tmp_path / "run" / "last.ckpt", get_task(TASK))(torch.rand(2, 200, 4))
    assert bool((act.mean(1) > 0).all()) is stays


def test_the_policy_acts_as_the_actor_on_standardised_observations(npz, tmp_path):
    module = CQL(seeds=(0, 1), **SMALL)
    train(module, npz, 20, tmp_path / "run")
    obs, info = torch.rand(2, 30, 4), module.data_info
    policy = CQL.load(tmp_path / "run" / "last.ckpt", get_task(TASK))
    for seed in range(2):
        plain = plain_mlp(module.actor.net, seed).float()
        seen = (obs[seed] - torch.tensor(info.obs_mean)) / (torch.tensor(info.obs_std) + 1e-3)
        torch.testing.assert_close(policy(obs)[seed], 0.1 * plain(seen)[:, :2].tanh(), atol=1e-6, rtol=0)


def test_a_missing_checkpoint_names_the_command_that_makes_one():
    with pytest.raises(InputError, match=r"cdsa fit --config configs/baselines/cql.yaml --data.task risky-pointmass"):
        CQL.load(None, get_task(TASK))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"alpha": -1.0}, "alpha must not be negative, got -1.0"),
        ({"lagrange_gap": -0.1}, "lagrange_gap must not be negative, got -0.1"),
        ({"cloning_steps": -1}, "cloning_steps must not be negative, got -1"),
        ({"reward": "minus"}, "Unknown reward 'minus'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(InputError, match=text):
        CQL(**settings)
