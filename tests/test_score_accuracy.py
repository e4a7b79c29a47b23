"""Scores learned with the robust preset against exact ones, through benchmarks/score_accuracy.py."""

import importlib.util
from pathlib import Path

import pytest
import torch

PATH = Path(__file__).parents[1] / "benchmarks" / "score_accuracy.py"
spec = importlib.util.spec_from_file_location("score_accuracy", PATH)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


def test_the_exact_score_is_the_gradient_written_out():
    true, z = bench.mixture(), torch.randn(5, bench.TESTED + bench.OTHER, dtype=torch.float64)
    smooth = true.smooth(0.3)
    density, gradient = 0.0, 0.0
    for weight, mean, cov in zip(*smooth, strict=True):
        inverse, offset = torch.linalg.inv(cov), z - mean
        exponent = -0.5 * torch.einsum("ni,ij,nj->n", offset, inverse, offset)
        part = weight * torch.exp(exponent) / torch.linalg.det(cov).sqrt()
        density, gradient = density + part, gradient - part[:, None] * (offset @ inverse)
    torch.testing.assert_close(smooth.score(z), (gradient / density[:, None])[:, : bench.TESTED])


def test_the_mixture_has_mean_0_and_deviation_1_and_noise_falls_on_x_alone():
    true = bench.mixture()
    torch.testing.assert_close(true.mean.mean(0), torch.zeros(8).double(), atol=1e-12, rtol=0)
    for density, added in ((true, 0.0), (true.smooth(0.5), 0.25)):
        variance = (density.mean.square() + density.cov.diagonal(dim1=1, dim2=2)).mean(0)
        torch.testing.assert_close(variance, torch.tensor([1.0 + added] * 6 + [1.0] * 2).double())


def test_a_rescaled_density_has_the_score_over_the_scale():
    true, z = bench.mixture(), torch.randn(5, 8, dtype=torch.float64)
    scale, shift = torch.linspace(0.1, 10, 8).double(), torch.linspace(-3, 3, 8).double()
    torch.testing.assert_close(true.transform(scale, shift).score(z * scale + shift), true.score(z) / scale[:6])


@pytest.mark.parametrize("net", ["g", "h"])
def test_a_short_run_finds_the_direction_of_the_score_in_any_units(net):
    (original,) = bench.measure(net, False, 500, [0], 20_000, sigmas=(0.5,)).values()
    (rescaled,) = bench.measure(net, True, 500, [0], 20_000, sigmas=(0.5,)).values()
    assert original[0] > 0.93 and original[2] < 0.36
    assert rescaled == pytest.approx(original, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("net", ["g", "h"])
def test_scores_are_as_accurate_as_promised(net, rescaled):
    for sigma, (cosine, _, error) in bench.measure(net, rescaled, 10_000, [0], 200_000).items():
        least, most = bench.TARGETS[sigma]
        assert cosine >= least and error <= most, sigma
