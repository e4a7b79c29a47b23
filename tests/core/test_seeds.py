"""Random numbers are a function of (seed, purpose, chunk) and of nothing else."""

import math

import pytest
import torch

from cdsa_lightning.core.seeds import SeedStreams, init_generators, shuffled
from cdsa_lightning.errors import InputError


def test_a_draw_depends_on_seed_purpose_and_chunk_alone():
    streams = SeedStreams([3, 8])
    first = streams.normal("noise", 5, (4, 2))
    streams.normal("noise", 6, (100,))
    streams.integers("batch", 5, (100,), 10)
    assert torch.equal(first, streams.normal("noise", 5, (4, 2)))
    assert torch.equal(first, SeedStreams([3, 8]).normal("noise", 5, (4, 2)))


def test_uniform_numbers_fill_the_unit_interval_finer_than_a_million_rows():
    streams = SeedStreams([3, 8])
    drawn = streams.uniform("batch", 5, (1000, 100))
    assert torch.equal(drawn, streams.uniform("batch", 5, (1000, 100)))
    assert torch.equal(drawn[1], SeedStreams([8]).uniform("batch", 5, (1000, 100))[0])
    assert drawn.dtype == torch.float64 and drawn.min() >= 0 and drawn.max() < 1
    counts = torch.histc(drawn, 20, 0, 1)
    assert (counts - 10_000).abs().max() < 5 * 100  # five deviations of a count
    assert len(drawn[0].flatten().unique()) == 100_000


def test_a_seed_draws_the_same_whoever_its_neighbours_are():
    together, alone = SeedStreams([0, 7, 3]), SeedStreams([7])
    assert torch.equal(together.normal("noise", 2, (5, 3))[1], alone.normal("noise", 2, (5, 3))[0])
    assert torch.equal(together.integers("batch", 2, (5,), 99)[1], alone.integers("batch", 2, (5,), 99)[0])


def test_the_global_generator_neither_matters_nor_moves():
    torch.manual_seed(0)
    first = SeedStreams([0]).normal("noise", 0, (3,))
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(first, SeedStreams([0]).normal("noise", 0, (3,)))


def test_other_seeds_purposes_and_chunks_draw_other_numbers():
    rows = [
        SeedStreams([seed]).normal(purpose, chunk, (4096,))
        for seed, purpose, chunk in [
            (0, "noise", 0),
            (1, "noise", 0),
            (0, "other", 0),
            (0, "noise", 1),
            (1, "noise", 1),
            (0, "noise", 10),
        ]
    ]
    correlation = torch.corrcoef(torch.cat(rows))
    assert (correlation - torch.eye(len(rows))).abs().max() < 0.1


def test_seed_and_chunk_do_not_run_into_each_other():
    # "1" + "10" and "11" + "0" must not be one name.
    assert not torch.equal(SeedStreams([1]).normal("p", 10, (8,)), SeedStreams([11]).normal("p", 0, (8,)))


def test_integers_are_uniform():
    n, high = 200_000, 10
    drawn = SeedStreams([0]).integers("batch", 0, (n,), high)
    counts = torch.bincount(drawn.flatten(), minlength=high)
    assert len(counts) == high
    chi_squared = ((counts - n / high).square() / (n / high)).sum()
    assert chi_squared < 28  # .999 quantile at 9 degrees of freedom


def test_normal_numbers_have_mean_0_and_deviation_1_across_chunks():
    numbers = torch.cat([SeedStreams([0]).normal("noise", chunk, (50,)) for chunk in range(2000)])
    n = numbers.numel()
    assert abs(numbers.mean()) < 4 / math.sqrt(n)
    assert abs(numbers.std() - 1) < 4 / math.sqrt(2 * n)


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_must_be_some_and_different(seeds):
    with pytest.raises(InputError, match="different integers"):
        init_generators(seeds)


@pytest.mark.parametrize(("total", "count"), [(1, 1), (7, 3), (7, 7), (7, 9), (5000, 4999), (100_000, 500)])
def test_the_first_of_a_permutation_are_those_of_the_whole_one(total, count):
    found = shuffled(total, torch.Generator().manual_seed(3), count)
    assert torch.equal(found, torch.randperm(total, generator=torch.Generator().manual_seed(3))[:count])
