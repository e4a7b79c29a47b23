"""The losses are their equations, and their minimiser is the score of the smoothed density."""

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from cdsa_lightning.core.losses import denoising_score_loss, inverse_dynamics_loss, noise_prediction_loss

SCORE, NOISE = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).double().split(1)


def test_the_score_loss_is_equation_6():
    sigma, total = 0.3, 0.0
    for g, z in zip(SCORE[0].numpy(), NOISE[0].numpy(), strict=True):
        total += 0.5 * np.sum((g + z / sigma) ** 2)
    torch.testing.assert_close(denoising_score_loss(SCORE, NOISE, sigma).item(), total / 6)


def test_the_inverse_dynamics_loss_is_equation_9():
    expected = np.mean([np.sum((i - a) ** 2) for i, a in zip(SCORE[0].numpy(), NOISE[0].numpy(), strict=True)])
    torch.testing.assert_close(inverse_dynamics_loss(SCORE, NOISE).item(), expected)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_predicting_noise_is_the_score_loss_times_sigma_squared(sigma):
    predicted = -sigma * SCORE
    torch.testing.assert_close(
        noise_prediction_loss(predicted, NOISE), sigma**2 * denoising_score_loss(SCORE, NOISE, sigma)
    )


def test_there_is_one_loss_per_network_and_level():
    score, noise, sigmas = torch.randn(2, 4, 5, 3), torch.randn(2, 4, 5, 3), torch.tensor([0.2, 0.7])
    losses = denoising_score_loss(score, noise, sigmas.view(2, 1, 1, 1))
    assert losses.shape == (2, 4)
    alone = denoising_score_loss(score[1, 3], noise[1, 3], 0.7)
    torch.testing.assert_close(losses[1, 3], alone)


def test_the_minimiser_for_gaussian_data_is_the_smoothed_score():
    std, sigma, n = 0.8, 0.5, 400_000
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(n, 1, generator=rng)
    x = 2.0 + std * torch.randn(n, 1, generator=rng) + sigma * noise
    slope, offset = torch.tensor(0.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    # The loss is quadratic in an affine score: one Newton step from 0 lands on the minimum.
    loss = denoising_score_loss(slope * x + offset, noise, sigma)
    gradient = torch.stack(torch.autograd.grad(loss, (slope, offset)))
    hessian = torch.stack((torch.stack((x.square().mean(), x.mean())), torch.stack((x.mean(), torch.tensor(1.0)))))
    best = -torch.linalg.solve(hessian, gradient)
    variance = std**2 + sigma**2
    torch.testing.assert_close(best, torch.tensor([-1 / variance, 2.0 / variance]), rtol=0.02, atol=0)


def test_tests_check_the_shapes_in_signatures():
    with pytest.raises(TypeCheckError):
        denoising_score_loss(torch.zeros(5, 3), torch.zeros(5, 2), 0.1)
