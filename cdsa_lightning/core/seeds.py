r"""Seeds as an axis: every training seed draws its own numbers, whichever other seeds are trained beside it.

Numbers are a function of (seed, purpose, chunk): the stream is restarted at every chunk of steps from a hash of the
three. So nothing but the step count has to be kept to resume exactly, and every process of a distributed run can draw
the joint batch and take its slice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from cdsa_lightning.errors import InputError

__all__ = ["SeedStreams", "init_generators", "shuffled"]


def _mix(seed: int, purpose: str, chunk: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}/{chunk}".encode(), digest_size=4).digest(), "little")


def init_generators(seeds: Sequence[int]) -> list[Generator]:
    """One generator per seed for the initial weights.

    Raises:
        InputError: no seed, or the same seed twice.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"seeds must be a list of different integers, got {list(seeds)}.")
    return [Generator().manual_seed(_mix(seed, "init", 0)) for seed in seeds]


def shuffled(total: int, generator: Generator, count: int) -> Int[Tensor, " count"]:
    """The first `count` entries, or all, of a random permutation of 0, ..., total - 1 (Fisher and Yates).

    Memory grows with `count` alone. Up to 200 million it is what `torch.randperm` begins with.
    """
    count = min(count, total)
    if count < total:
        moved: dict[int, int] = {}
        for i in range(count):
            j = i + int(torch.randint(total - i, (), generator=generator))
            moved[i], moved[j] = moved.get(j, j), moved.get(i, i)
        return torch.tensor([moved[i] for i in range(count)], dtype=torch.long)
    return torch.randperm(total, generator=generator)


class SeedStreams:
    """Random numbers of E seeds, restarted at every chunk.

    Args:
        seeds: The training seeds.
        device: Where the numbers are drawn; streams of a CPU and of a GPU differ.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seeds, self.device = tuple(seeds), torch.device(device)

    def _generator(self, seed: int, purpose: str, chunk: int) -> Generator:
        return Generator(self.device).manual_seed(_mix(seed, purpose, chunk))

    def integers(self, purpose: str, chunk: int, shape: tuple[int, ...], high: int) -> Int[Tensor, " E *shape"]:
        """Uniform integers in [0, high), one draw of `shape` per seed."""
        out = torch.empty((len(self.seeds), *shape), dtype=torch.long, device=self.device)
        for row, seed in zip(out, self.seeds, strict=True):
            torch.randint(high, shape, generator=self._generator(seed, purpose, chunk), out=row)
        return out

    def uniform(self, purpose: str, chunk: int, shape: tuple[int, ...]) -> Float[Tensor, " E *shape"]:
        """Uniform numbers in [0, 1), one draw of `shape` per seed; float64, to tell a million rows apart."""
        out = torch.empty((len(self.seeds), *shape), dtype=torch.float64, device=self.device)
        for row, seed in zip(out, self.seeds, strict=True):
            torch.rand(shape, generator=self._generator(seed, purpose, chunk), dtype=torch.float64, out=row)
        return out

    def normal(self, purpose: str, chunk: int, shape: tuple[int, ...]) -> Float[Tensor, " E *shape"]:
        """Standard normal numbers, one draw of `shape` per seed."""
        out = torch.empty((len(self.seeds), *shape), device=self.device)
        for row, seed in zip(out, self.seeds, strict=True):
            torch.randn(shape, generator=self._generator(seed, purpose, chunk), out=row)
        return out
