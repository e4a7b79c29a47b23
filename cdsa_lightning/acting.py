r"""What a loop over lanes needs: one batched decision per step, action noise, episode seeds, a tape of the steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float
from torch import Tensor

from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.core.policy import Policy, act
from cdsa_lightning.errors import InputError

__all__ = ["Decision", "NoisyPolicy", "Tape", "acting", "decide", "episode_seed", "float32"]


class NoisyPolicy(Policy):
    """A policy with Gaussian noise on its actions: clip(policy(obs) + N(0, std^2)).

    Args:
        policy: The policy underneath, one seed or E seeds.
        std: Standard deviation, in action units.
        seed: Starts the noise; `reseed` starts it again.

    Raises:
        InputError: `std` is negative or not finite.
    """

    stochastic = True

    def __init__(self, policy: Policy, std: float, seed: int = 0) -> None:
        super().__init__(policy.low, policy.high)
        if not 0 <= std < float("inf"):
            raise InputError(f"The noise's standard deviation must be 0 or more and finite, got {std}.")
        self.policy, self.std = policy, std
        self.num_seeds, self.on_host = policy.num_seeds, policy.on_host
        # On the CPU wherever the policy lives: the same noise on every device.
        self._generator = torch.Generator().manual_seed(seed)

    def reseed(self, seed: int) -> None:
        self.policy.reseed(seed)
        self._generator.manual_seed(seed)

    def forward(self, obs: Float[Tensor, "*seeds B S"]) -> Float[Tensor, "*seeds B A"]:
        action = self.policy(obs)
        noise = torch.randn(action.shape, generator=self._generator).to(action.device)
        return self.clip(action + self.std * noise)


def episode_seed(seed: int, index: int) -> int:
    """The environment seed of the index-th episode of a rollout, in [0, 2^32).

    Raises:
        InputError: a negative seed.
    """
    if seed < 0:
        raise InputError(f"A seed must be 0 or more, got {seed}.")
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


class Decision(NamedTuple):
    """Actions and base actions [E, B, A], clipped [E, B]; base and clipped are None for an uncorrected policy."""

    action: np.ndarray
    base_action: np.ndarray | None
    clipped: np.ndarray | None


@torch.inference_mode()
def decide(policy: Policy, obs: np.ndarray) -> Decision:
    """The actions for observations [E, B, S] float32, E = policy.num_seeds; where corrected, with their parts."""
    batch = torch.from_numpy(obs).to(policy.low.device)
    if not isinstance(policy, CorrectedPolicy):
        return Decision(act(policy, batch).cpu().numpy(), None, None)
    parts = policy.explain(batch)
    return Decision(parts.action.cpu().numpy(), parts.base_action.cpu().numpy(), parts.clipped.cpu().numpy())


@contextmanager
def acting(policy: Policy, env: VectorEnv, seed: int) -> Iterator[None]:
    """Evaluation mode and fresh noise for the duration, once the policy is seen to fit the environment.

    Raises:
        InputError: the policy has another number of action entries than the environment.
    """
    wanted = env.single_action_space.shape
    if wanted != (policy.action_dim,):
        raise InputError(
            f"The policy has {policy.action_dim} action entries, the environment's actions have shape {wanted}. "
            "Was the policy trained for another task?"
        )
    training = policy.training
    policy.eval()
    policy.reseed(seed)
    try:
        yield
    finally:
        policy.train(training)


def float32(obs: np.ndarray) -> np.ndarray:
    """Observations as policies and datasets take them."""
    return np.ascontiguousarray(obs, dtype=np.float32)


class Tape:
    """Steps of many lanes, cut off episode by episode; grows by doubling."""

    def __init__(self, lanes: int) -> None:
        self._length = np.zeros(lanes, dtype=np.int64)
        self._columns: dict[str, np.ndarray] = {}

    def append(self, lanes: np.ndarray, **values: np.ndarray) -> None:
        """One more step for `lanes`; `values` hold rows for all lanes."""
        at = self._length[lanes]
        for name, rows in values.items():
            column = self._columns.get(name)
            if column is None:
                column = np.zeros((len(self._length), 128, *rows.shape[1:]), dtype=rows.dtype)
            elif at.size and at.max() >= column.shape[1]:
                column = np.concatenate((column, np.zeros_like(column)), axis=1)
            self._columns[name] = column
            column[lanes, at] = rows[lanes]
        self._length[lanes] += 1

    def cut(self, lane: int) -> dict[str, np.ndarray]:
        """The steps of one lane, which begins again at 0."""
        length, self._length[lane] = self._length[lane], 0
        return {name: column[lane, :length].copy() for name, column in self._columns.items()}
