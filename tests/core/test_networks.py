"""The three networks: what they see, what they predict, what they are trained on."""

import numpy as np
import pytest
import torch

from cdsa_lightning.core.networks import NetworkSettings
from cdsa_lightning.errors import InputError
from known_networks import ACTION, OBS, affine, random_networks


def batch(seeds, size=32, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(seeds, size, width, generator=rng) for width in (OBS, ACTION, OBS)]


def noise_for(networks, size=32):
    return torch.randn(networks.num_seeds, size, networks.noise_dim, generator=torch.Generator().manual_seed(1))


def by_hand(net, row, x, slope):
    """One network of a stack, in NumPy."""
    *hidden, last = [(layer.weight[row].detach().numpy(), layer.bias[row].detach().numpy()) for layer in net.layers]
    for weight, bias in hidden:
        x = x @ weight + bias
        x = np.where(x > 0, x, slope * x)
    return x @ last[0] + last[1]


@pytest.mark.parametrize("predict", ["score", "noise"])
def test_score_net_recovers_gaussian_score(predict):
    mean, std, sigmas = torch.tensor([0.5, -1.0]), torch.tensor([0.6, 1.2]), (0.3, 0.8)
    networks = random_networks(predict=predict, action_sigmas=sigmas)
    optimizer = torch.optim.Adam(networks.parameters(), lr=3e-3, fused=True)
    rng, steps = torch.Generator().manual_seed(0), 1200
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        obs = torch.randn(1, 256, OBS, generator=rng)
        action = mean + std * torch.randn(1, 256, ACTION, generator=rng)
        noise = torch.randn(1, 256, networks.noise_dim, generator=rng)
        loss = sum(networks.losses(obs, action, obs, noise).values()).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for level, sigma in enumerate(sigmas):
        variance = std**2 + sigma**2
        obs = torch.randn(1, 4000, OBS, generator=rng)
        action = mean + variance.sqrt() * torch.randn(1, 4000, ACTION, generator=rng)
        exact = -(action - mean) / variance
        learned = -networks.action_noise(obs, action, level).detach() / sigma
        assert (learned - exact).norm() < 0.15 * exact.norm()


@pytest.mark.parametrize("predict", ["score", "noise"])
@pytest.mark.parametrize("state_score_input", ["state_action", "state"])
def test_losses_are_equations_6_8_and_9_written_out(predict, state_score_input):
    sigmas, state_sigma = (0.5, 0.2), 0.7
    networks = random_networks(
        2, predict=predict, action_sigmas=sigmas, state_sigma=state_sigma, state_score_input=state_score_input
    )
    (obs, action, next_obs), noise = batch(2), noise_for(networks)
    losses = networks.losses(obs, action, next_obs, noise)
    for row in range(2):
        s, a, s_next, z = (part[row].numpy() for part in (obs, action, next_obs, noise))
        l_g = 0.0
        for level, sigma in enumerate(sigmas):
            z_a = z[:, level * ACTION : (level + 1) * ACTION]
            g = by_hand(networks.action_score, 2 * level + row, np.hstack((s, a + sigma * z_a)), 0.1)
            residual = g - z_a if predict == "noise" else g + z_a / sigma
            l_g += 0.5 * (residual**2).sum(1).mean()
        z_s = z[:, len(sigmas) * ACTION :]
        noised = s + state_sigma * z_s
        h = by_hand(
            networks.state_score, row, np.hstack((noised, a)) if state_score_input == "state_action" else noised, 0.1
        )
        residual = h - z_s if predict == "noise" else h + z_s / state_sigma
        l_h = 0.5 * (residual**2).sum(1).mean()
        l_i = ((by_hand(networks.inverse_dynamics, row, np.hstack((s, s_next)), 0.2) - a) ** 2).sum(1).mean()
        for name, expected in {"action_score": l_g, "state_score": l_h, "inverse_dynamics": l_i}.items():
            np.testing.assert_allclose(losses[f"{name}_loss"][row].item(), expected, rtol=1e-5, err_msg=name)


def test_a_perfect_inverse_dynamics_has_no_loss():
    networks = random_networks()
    obs, action, next_obs = batch(1)
    next_obs[..., :ACTION] = obs[..., :ACTION] + action
    step = torch.cat((-torch.eye(OBS), torch.eye(OBS)))[None, :, :ACTION]
    networks.inverse_dynamics = affine(step, torch.zeros(1, ACTION))
    loss = networks.losses(obs, action, next_obs, noise_for(networks))["inverse_dynamics_loss"]
    assert loss.item() < 1e-12


def test_the_summed_gradient_of_many_seeds_is_each_seeds_own():
    networks = random_networks(3, predict="noise", action_sigmas=(0.4, 0.1))
    parts, noise = batch(3), noise_for(networks)
    sum(networks.losses(*parts, noise).values()).sum().backward()
    for seed in range(3):
        solo = random_networks(3, predict="noise", action_sigmas=(0.4, 0.1))
        losses = solo.losses(*parts, noise)
        sum(loss[seed] for loss in losses.values()).backward()
        for (name, many), one in zip(networks.named_parameters(), solo.parameters(), strict=True):
            rows = slice(seed, None, 3)  # level-major
            torch.testing.assert_close(many.grad[rows], one.grad[rows], atol=1e-6, rtol=1e-5, msg=name)
            others = [row for row in range(len(one)) if row % 3 != seed]
            assert one.grad[others].abs().max() == 0, name


def test_levels_and_seeds_do_not_mix():
    networks = random_networks(3, predict="noise", action_sigmas=(0.4, 0.1))
    bias = torch.arange(6.0)[:, None].expand(6, ACTION)
    networks.action_score = affine(torch.zeros(6, OBS + ACTION, ACTION), bias)
    obs, action, _ = batch(3, size=2)
    for level in range(2):
        assert networks.action_noise(obs, action, level)[:, 0, 0].tolist() == [3 * level, 3 * level + 1, 3 * level + 2]


def test_predicted_noise_is_minus_sigma_times_the_score():
    score = random_networks(predict="score", action_sigmas=(0.5,), state_sigma=0.3)
    obs, action, _ = batch(1)
    g = score.action_score(torch.cat((obs, action), -1))
    h = score.state_score(torch.cat((obs, action), -1))
    torch.testing.assert_close(score.action_noise(obs, action, 0), -0.5 * g)
    torch.testing.assert_close(score.state_noise(obs, action), -0.3 * h)


def test_a_state_only_score_does_not_see_the_action():
    obs, action, _ = batch(1)
    alone, joint = (random_networks(state_score_input=value) for value in ("state", "state_action"))
    assert torch.equal(alone.state_noise(obs, action), alone.state_noise(obs, action + 1))
    assert not torch.allclose(joint.state_noise(obs, action), joint.state_noise(obs, action + 1))


def test_only_a_standardising_network_uses_statistics():
    obs, action, _ = batch(1)
    for standardize in (False, True):
        networks = random_networks(standardize=standardize)
        networks.obs_mean.fill_(2.0)
        networks.obs_std.fill_(4.0)
        networks.action_mean.fill_(-1.0)
        networks.action_std.fill_(0.5)
        s, u = networks.standardize(obs, action)
        torch.testing.assert_close(s, (obs - 2) / 4 if standardize else obs)
        torch.testing.assert_close(u, (action + 1) / 0.5 if standardize else action)
        inverse = networks.inverse_dynamics(torch.cat((s, s), -1))
        torch.testing.assert_close(networks.predict_action(s, s), inverse * 0.5 - 1 if standardize else inverse)


def test_networks_may_see_a_part_of_the_observation():
    networks = random_networks(state_index=[2, 0])
    obs, action, _ = batch(1)
    s, _ = networks.standardize(obs, action)
    assert torch.equal(s, obs[..., [2, 0]])
    assert networks.state_noise(s, action).shape[-1] == 2
    assert networks.noise_dim == ACTION + 2


def test_entries_that_no_observation_has_are_refused():
    with pytest.raises(InputError, match=r"state_index \[0, 3\].*observation of 3"):
        random_networks(state_index=[0, 3])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"action_sigmas": ()}, "action_sigmas is empty"),
        ({"action_sigmas": (0.1, -0.1)}, "sigma must be positive, got -0.1"),
        ({"action_sigmas": (0.1, 0.1)}, "must differ"),
        ({"state_sigma": 0.0}, "sigma must be positive, got 0"),
        ({"state_sigma": float("nan")}, "sigma must be positive, got nan"),
        ({"predict": "noize"}, "Did you mean 'noise'"),
        ({"state_score_input": "action"}, "Known: state, state_action"),
    ],
)
def test_settings_without_meaning_are_refused(values, text):
    with pytest.raises(InputError, match=text):
        NetworkSettings(**values)
