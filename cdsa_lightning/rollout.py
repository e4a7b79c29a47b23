r"""Rollouts: training seeds x episodes side by side in one vector environment, one forward pass per step for all.

Every episode is run exactly once and whole, so that short ones weigh no more than long ones. Episode i starts from an
environment seed that depends on (seed, i) alone: the same for every policy and every training seed, so that a baseline
and its corrected self start alike. A finished lane takes the next waiting episode of its training seed; when none waits
it freezes, costs no physics, and leaves the policy's batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv

from cdsa_lightning.acting import NoisyPolicy, Tape, acting, decide, episode_seed, float32
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError

__all__ = ["Episodes", "NoisyPolicy", "Trace", "Trajectory", "episode_seed", "rollout", "stream"]

MAX_LANES = 512
"""Lanes at once where the caller names no number; a MuJoCo lane holds half a megabyte."""

INFO = {"cost": "sum", "in_risk_region": "sum", "success": "any", "x_position": "change"}
"""What becomes of an environment's infos over an episode; others are dropped."""


@runtime_checkable
class MakesEnvs(Protocol):
    """What a rollout needs of a `Task`."""

    def make_env(self, num_envs: int, **env_kwargs: Any) -> VectorEnv: ...


@dataclass(frozen=True)
class Trace:
    """One recorded episode: obs [T + 1, S], action [T, A], base_action [T, A] (before correction), reward [T]."""

    seed: int
    episode: int
    obs: np.ndarray
    action: np.ndarray
    base_action: np.ndarray
    reward: np.ndarray


@dataclass(frozen=True)
class Trajectory:
    """One finished episode for a dataset: obs [T + 1, S], action [T, A] float32, reward [T], and how it ended."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    truncated: bool


@dataclass(frozen=True)
class Episodes:
    """What E training seeds x n episodes gave; every array is [E, n].

    Args:
        returns: Sums of rewards.
        lengths: Steps.
        terminated: Whether the environment ended the episode (else the time limit did).
        shift: Length of action - base_action, mean over the steps; 0 for an uncorrected policy.
        clip_fraction: Share of steps in which the action bounds cut the correction.
        info: cost: sum; in_risk_region: steps inside; success: whether ever; x_position: last minus first.
        traces: The first recorded episodes of each seed, seed by seed.
    """

    returns: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray
    shift: np.ndarray
    clip_fraction: np.ndarray
    info: dict[str, np.ndarray]
    traces: list[Trace]


def rollout(
    policy: Policy,
    task: MakesEnvs,
    episodes: int,
    seed: int,
    *,
    record: int = 0,
    env_kwargs: dict[str, Any] | None = None,
    lanes: int | None = None,
) -> Episodes:
    """Run `episodes` episodes of each of the policy's training seeds, all side by side.

    Repeatable for the same arguments. For a deterministic policy the number of lanes does not matter either, beyond the
    rounding of matrix products of another batch size; a stochastic policy draws for the rows in front of it.

    Args:
        policy: E = policy.num_seeds training seeds; a `CorrectedPolicy` also reports its shift and clipping.
        task: Makes the environments.
        episodes: Episodes per training seed, n.
        seed: Of the environments and of a stochastic policy.
        record: Keep traces of the first so many episodes of each training seed.
        env_kwargs: Keywords of the environment.
        lanes: At most so many episodes at once (at least one per training seed); None for `MAX_LANES`.

    Raises:
        InputError: a number below 1, a policy of another action space, or an action that is NaN or infinite.
    """
    for name, value in (("episodes", episodes), ("lanes", 1 if lanes is None else lanes), ("record + 1", record + 1)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
    per_seed = min(episodes, max(1, (lanes or MAX_LANES) // policy.num_seeds))
    env = task.make_env(policy.num_seeds * per_seed, **(env_kwargs or {}))
    try:
        with acting(policy, env, seed):
            run = _Run(policy, env, episodes, seed, record)
            while run.active.any():
                run.step()
    finally:
        env.close()
    return run.result()


def stream(policy: Policy, env: VectorEnv, seed: int) -> Iterator[Trajectory]:
    """Endless experience: every lane restarts as soon as its episode ends, which is then yielded whole.

    Args:
        policy: With E training seeds, the lanes are shared out among them in blocks.
        env: Lanes that freeze when finished (`make_lanes`); a multiple of E.
        seed: Of the environments and of a stochastic policy; the k-th episode begun gets `episode_seed(seed, k)`.

    Raises:
        InputError: as `rollout`, and lanes that cannot be shared out.
    """
    if env.num_envs % policy.num_seeds:
        raise InputError(f"{env.num_envs} lanes cannot be shared out among {policy.num_seeds} seeds; use a multiple.")
    with acting(policy, env, seed):
        begun, tape = env.num_envs, Tape(env.num_envs)
        every = np.arange(env.num_envs)
        obs = float32(env.reset(seed=[episode_seed(seed, k) for k in every.tolist()])[0])  # type: ignore[arg-type]
        while True:
            decision = decide(policy, obs.reshape(policy.num_seeds, -1, obs.shape[-1]))
            action = decision.action.reshape(env.num_envs, -1)
            if not np.isfinite(action).all():
                raise InputError(f"The policy returned a NaN or infinite action after {begun} begun episodes.")
            after, reward, terminated, truncated, _ = env.step(action)
            tape.append(every, obs=obs, action=action, reward=reward)
            obs, done = float32(after), terminated | truncated
            for lane in np.flatnonzero(done).tolist():
                episode = tape.cut(lane)
                episode["obs"] = np.concatenate((episode["obs"], obs[lane : lane + 1]))
                yield Trajectory(**episode, terminated=bool(terminated[lane]), truncated=bool(truncated[lane]))
            if done.any():
                seeds: list[int | None] = [None] * env.num_envs
                for lane in np.flatnonzero(done).tolist():
                    seeds[lane], begun = episode_seed(seed, begun), begun + 1
                obs = float32(env.reset(seed=seeds, options={"reset_mask": done})[0])  # type: ignore[arg-type]


class _Run:
    """The state of one rollout; lane e * B + b belongs to training seed e."""

    def __init__(self, policy: Policy, env: VectorEnv, episodes: int, seed: int, record: int) -> None:
        self.policy, self.env, self.seed, self.record = policy, env, seed, record
        self.seeds, lanes = policy.num_seeds, env.num_envs
        self.owner = np.repeat(np.arange(self.seeds), lanes // self.seeds)
        self.waiting = [iter(range(episodes)) for _ in range(self.seeds)]
        self.episode = np.zeros(lanes, dtype=np.int64)
        self.active = np.zeros(lanes, dtype=bool)
        self.totals = {key: np.zeros(lanes) for key in ("return", "length", "terminated", "shift", "clipped")}
        self.first = np.full(lanes, np.nan)  # x_position at the start; NaN where the environment has not said yet
        self.results: dict[str, np.ndarray] = {}
        self.shape, self.tape = (self.seeds, episodes), Tape(lanes)
        self.traces: list[Trace] = []
        self.obs = np.zeros((0,), dtype=np.float32)
        self._begin(np.arange(lanes))

    def _begin(self, lanes: np.ndarray) -> None:
        """Start the next waiting episode in each of `lanes`, as far as there are any."""
        self.active[lanes] = False
        env_seeds: list[int | None] = [None] * self.env.num_envs
        for lane in lanes.tolist():
            index = next(self.waiting[self.owner[lane]], None)
            if index is not None:
                self.episode[lane], self.active[lane] = index, True
                env_seeds[lane] = episode_seed(self.seed, index)
        begun = np.array([s is not None for s in env_seeds])
        if begun.any():
            obs, infos = self.env.reset(seed=env_seeds, options={"reset_mask": begun})  # type: ignore[arg-type]
            self.obs = float32(obs)
            self.first[begun] = infos["x_position"][begun] if "x_position" in infos else np.nan
            for total in self.totals.values():
                total[begun] = 0
        # The policy sees [E, B'] rows: each seed's running lanes, filled up with idle ones to the largest number.
        running = self.active.reshape(self.seeds, -1)
        order = np.argsort(~running, axis=1, kind="stable")[:, : max(1, running.sum(axis=1).max())]
        self.rows = order + np.arange(self.seeds)[:, None] * running.shape[1]

    def step(self) -> None:
        """One step of every running lane."""
        decision, rows, active = decide(self.policy, self.obs[self.rows]), self.rows, self.active
        action = np.zeros((len(active), self.policy.action_dim), dtype=np.float32)
        action[rows] = decision.action
        self._check(action)
        base = action
        if decision.base_action is not None and decision.clipped is not None:
            base = np.zeros_like(action)
            base[rows] = decision.base_action
            self.totals["shift"][rows] += np.linalg.norm(decision.action - decision.base_action, axis=-1)
            self.totals["clipped"][rows] += decision.clipped
        obs, reward, terminated, truncated, infos = self.env.step(action)
        if self.record:
            kept = np.flatnonzero(active & (self.episode < self.record))
            self.tape.append(kept, obs=self.obs, action=action, base_action=base, reward=reward)
        self.obs = float32(obs)
        self.totals["return"] += reward
        self.totals["length"] += active
        self.totals["terminated"] = terminated.astype(float)
        self._add_infos(infos)
        done = np.flatnonzero(active & (terminated | truncated))
        if done.size:
            self._finish(done)
            self._begin(done)

    def _check(self, action: np.ndarray) -> None:
        bad = self.active & ~np.isfinite(action).all(axis=1)
        if bad.any():
            lane = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"The policy returned a NaN or infinite action at step {int(self.totals['length'][lane])} of episode "
                f"{self.episode[lane]} (training seed {self.owner[lane]}): {action[lane].tolist()}. "
                "Check the checkpoint's weights and observation statistics."
            )

    def _add_infos(self, infos: dict[str, Any]) -> None:
        for key, how in INFO.items():
            if key not in infos:
                continue
            value = np.asarray(infos[key], dtype=np.float64)
            total = self.totals.setdefault(f"info/{key}", np.zeros(len(value)))
            if how == "sum":
                total += value * self.active
            elif how == "any":
                np.maximum(total, value * self.active, out=total)
            else:
                self.first = np.where(np.isnan(self.first), value, self.first)
                total[:] = value - self.first

    def _finish(self, lanes: np.ndarray) -> None:
        """Write the finished episodes into the results."""
        for key, total in self.totals.items():
            table = self.results.setdefault(key, np.zeros(self.shape))
            table[self.owner[lanes], self.episode[lanes]] = total[lanes]
        for lane in lanes.tolist():
            seed, episode = int(self.owner[lane]), int(self.episode[lane])
            if episode < self.record:
                steps = self.tape.cut(lane)
                steps["obs"] = np.concatenate((steps["obs"], self.obs[lane : lane + 1]))
                self.traces.append(Trace(seed, episode, **steps))

    def result(self) -> Episodes:
        """Everything, once no lane is running."""
        table, lengths = self.results, self.results["length"]
        return Episodes(
            returns=table["return"],
            lengths=lengths.astype(np.int64),
            terminated=table["terminated"].astype(bool),
            shift=table["shift"] / lengths,
            clip_fraction=table["clipped"] / lengths,
            info={key: table[f"info/{key}"] for key in INFO if f"info/{key}" in table},
            traces=sorted(self.traces, key=lambda trace: (trace.seed, trace.episode)),
        )
