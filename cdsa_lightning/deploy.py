r"""A corrected policy in one line, for programs that know nothing of this package's classes.

    safe = correct(policy, "corrector.safetensors");   action = safe(obs);   parts = safe.explain(obs)

What comes in as NumPy goes out as NumPy, and torch as torch on its device; one observation [S] gives one action [A], a
batch [B, S] a batch [B, A]. `CorrectActions` does the same to whatever acts in a gymnasium environment.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from cdsa_lightning.arrays import as_tensor, like
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Correction, Corrector
from cdsa_lightning.core.gate import QUANTILES
from cdsa_lightning.core.policy import FunctionPolicy, Policy, act
from cdsa_lightning.errors import InputError
from cdsa_lightning.monitor import Monitor

__all__ = ["CorrectActions", "Explanation", "SafePolicy", "as_policy", "correct"]

_GRID = np.linspace(0, 1, QUANTILES)


class Explanation(NamedTuple):
    """An action and its parts, each [A] or [B, A] in action units; the last four are one number a row.

    `base_action` is the policy's, within the bounds. a1 and a2 are what the action score and the inverse dynamics
    added, `shift` = action - base_action. `clipped` says whether a bound changed an entry. `p_value` is the share of
    the data's actions that look at least as unusual as the policy's, to 1 %; NaN where the corrector's file does not
    know the data's. `score_norm` is what this is judged by: the length of the noise that the networks see in the
    policy's action at the first sigma.
    """

    action: Any
    base_action: Any
    a1: Any
    a2: Any
    shift: Any
    clipped: Any
    p_value: Any
    score_norm: Any


class SafePolicy:
    """What `correct` returns: call it as you called the policy.

    Args:
        ask: Observations, as they come, to actions of the same kind and leading axes.
        corrector: Of one training seed.
        coefficients: None for the corrector's own.
        monitor: Counts every answer.
    """

    def __init__(
        self,
        ask: Callable[[Any], Any],
        corrector: Corrector,
        coefficients: Coefficients | None,
        monitor: Monitor | None = None,
    ) -> None:
        self._ask, self.corrector, self.monitor = ask, corrector.eval(), monitor
        self.coefficients = coefficients or corrector.coefficients
        self._level = corrector.schedule(self.coefficients)[0]
        table = corrector.noise_quantiles[self._level][0].cpu().numpy()
        self._table = table if table.any() else None
        if self.coefficients.gate is not None and self._table is None:
            raise InputError("gate needs the data's noise, which this corrector's file lacks: fit the corrector again.")

    def __call__(self, obs: Any) -> Any:
        """The corrected action; see `explain`."""
        obs = _as_array(obs)
        self._check(obs, "observations", self.corrector.obs_dim, "[S] or [B, S]")
        rows, own, action = self._prepare(obs, self._ask(obs))
        done, _, _ = self._correct(rows, own, self.monitor is not None)
        return like(done[0].reshape(action.shape), action)

    def explain(self, obs: Any) -> Explanation:
        """The corrected action and its parts.

        Args:
            obs: [S] or [B, S], NumPy (or what becomes it) or torch.

        Raises:
            InputError: shapes that are not the corrector's, or an observation or an action that is NaN or infinite.
        """
        obs = _as_array(obs)
        self._check(obs, "observations", self.corrector.obs_dim, "[S] or [B, S]")
        return self.of(obs, self._ask(obs))

    @torch.no_grad()
    def of(self, obs: Any, action: Any) -> Explanation:
        """The same for an action that the policy has given already.

        Raises:
            InputError: as `explain`.
        """
        obs = _as_array(obs)
        self._check(obs, "observations", self.corrector.obs_dim, "[S] or [B, S]")
        rows, own, action = self._prepare(obs, action)
        done, parts, length = self._correct(rows, own, True)
        p_value = torch.from_numpy(self._p_value(length[0].cpu().numpy()))[None]
        told = (done, own, parts.a1, parts.a2, done - own, parts.clipped, p_value, length)
        return Explanation(*(like(x[0].reshape((*obs.shape[:-1], *x.shape[2:])), action) for x in told))

    @torch.no_grad()
    def _correct(self, rows: Tensor, own: Tensor, measure: bool) -> tuple[Tensor, Correction, Tensor]:
        """The corrected actions, their parts, and the predicted noise's length [1, B] where it is to be measured."""
        base, nets = own.to(rows), self.corrector.networks
        noise = nets.action_noise(*nets.standardize(rows, base), self._level) if measure else None
        parts = self.corrector.explain(rows, base, self.coefficients, noise)
        done = torch.where(parts.action == base, own, parts.action)
        length = rows.new_empty(0) if noise is None else noise.norm(dim=-1)
        if self.monitor is not None:
            score, moved, clipped = (x[0].cpu().numpy() for x in (length, (done - own).norm(dim=-1), parts.clipped))
            self.monitor.record(score, self._p_value(score), moved, clipped)
        return done, parts, length

    def _prepare(self, obs: Any, action: Any) -> tuple[Tensor, Tensor, Any]:
        """Observations [1, B, S], the policy's actions [1, B, A] within the bounds, and these as they were given.

        The actions are as precise as the policy's, so that what no correction moves stays its own to the last bit.
        """
        action = _as_array(action)
        self._check(action, "actions of the policy", self.corrector.action_dim, "as the observations")
        if action.shape[:-1] != obs.shape[:-1]:
            raise InputError(f"The policy answered observations {tuple(obs.shape)} with actions {tuple(action.shape)}.")
        home = self.corrector.low
        rows, own = (as_tensor(x).to(home.device).reshape(1, -1, x.shape[-1]) for x in (obs, action))
        return rows.to(home), torch.minimum(torch.maximum(own, home), self.corrector.high), action

    def _check(self, value: Any, name: str, width: int, form: str) -> None:
        if value.ndim not in (1, 2) or value.shape[-1] != width:
            raise InputError(f"The corrector takes {name} {form} with {width} entries, got shape {tuple(value.shape)}.")
        if not isinstance(value, Tensor) and value.dtype.kind not in "fiub":
            raise InputError(f"The {name} are no numbers but of type {value.dtype}.")
        finite = value.isfinite() if isinstance(value, Tensor) else np.isfinite(value)
        if bool(finite.all()):
            return
        if self.monitor is not None:
            self.monitor.refuse(int((~finite).any(-1).sum()))
        raise InputError(f"{int((~finite).sum())} entries of the {name} are NaN or infinite.")

    def _p_value(self, length: np.ndarray) -> np.ndarray:
        """1 - F(|eps|), F the data's distribution of |eps| at the first level, out of its kept quantiles."""
        if self._table is None:
            return np.full(len(length), np.nan, np.float32)
        # No number at all is as unusual as can be.
        found = np.interp(np.where(np.isnan(length), np.inf, length), self._table, _GRID)
        return (1.0 - found).astype(np.float32)


class CorrectActions(gym.Wrapper):
    """An environment in which every action is corrected on its way; `info` tells `shift` (its length) and `p_value`.

    Args:
        env: Its observations and actions are those of the corrector.
        corrector: A corrector, or its file.
        coefficients: None for the corrector's own.
        seed: Which training seed of the corrector, counted from 0, or ``mean``.
        monitor: Counts every step.

    Raises:
        InputError: a corrector of another task.
    """

    def __init__(
        self,
        env: gym.Env,
        corrector: Corrector | str | Path,
        coefficients: Coefficients | None = None,
        seed: int | str = 0,
        monitor: Monitor | None = None,
    ) -> None:
        super().__init__(env)
        self.safe = SafePolicy(_no_policy, _corrector(corrector, seed), coefficients, monitor)
        self._obs: Any = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self._obs, info = self.env.reset(**kwargs)
        return self._obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        found = self.safe.of(self._obs, action)
        self._obs, reward, terminated, truncated, info = self.env.step(found.action)
        told = {"shift": float(np.linalg.norm(found.shift)), "p_value": float(found.p_value)}
        return self._obs, reward, terminated, truncated, {**info, **told}


def correct(
    policy: Any,
    corrector: Corrector | str | Path,
    coefficients: Coefficients | None = None,
    seed: int | str = 0,
    monitor: Monitor | None = None,
) -> SafePolicy:
    """Any policy, corrected.

    Args:
        policy: A function of observations, a network, a `Policy`, an object with `predict` (Stable-Baselines3, d3rlpy),
            or a session of onnxruntime. A function gets what you give: one observation or a batch, NumPy or torch.
        corrector: A corrector, or its file.
        coefficients: None for the corrector's own.
        seed: Which training seed of the corrector, counted from 0, or ``mean`` for the mean over all.
        monitor: Counts every answer, of `safe(obs)` and of `safe.explain(obs)`.

    Raises:
        InputError: nothing that could be asked for an action, a file that is no corrector, or no such seed.
    """
    return SafePolicy(_asker(policy), _corrector(corrector, seed), coefficients, monitor)


def as_policy(policy: Any, low: Any, high: Any) -> Policy:
    """What `correct` takes, as a `Policy` with these action bounds [A]; a `Policy` stays as it is.

    A function gets float32 batches [B, S] in NumPy.

    Raises:
        InputError: nothing that could be asked for an action.
    """
    if isinstance(policy, Policy):
        return policy.eval()
    return FunctionPolicy(_asker(policy), low, high, numpy=not isinstance(policy, nn.Module))


def _corrector(given: Corrector | str | Path, seed: int | str) -> Corrector:
    corrector = given if isinstance(given, Corrector) else load_corrector(given)
    if isinstance(seed, str):
        if seed != "mean":
            raise InputError(f"seed must be a number or 'mean', got {seed!r}.")
        return corrector.ensemble()
    return corrector if corrector.networks.ensemble else corrector.select(seed)


def _asker(policy: Any) -> Callable[[Any], Any]:
    """How `policy` is asked."""
    if isinstance(policy, Policy):
        if policy.num_seeds != 1:
            raise InputError(f"The policy holds {policy.num_seeds} training seeds: give one of them.")
        return _network(lambda rows: act(policy.eval(), rows[None])[0], policy.low)
    if isinstance(policy, nn.Module):
        weight = next(iter(policy.parameters()), torch.zeros(()))
        return _network(policy.eval(), weight)
    if hasattr(policy, "get_inputs") and hasattr(policy, "run"):
        name = policy.get_inputs()[0].name
        return _rows(lambda rows: policy.run(None, {name: rows})[0])
    if hasattr(policy, "predict"):
        if "deterministic" in inspect.signature(policy.predict).parameters:
            return _rows(lambda rows: policy.predict(rows, deterministic=True)[0])
        return _rows(policy.predict)
    if callable(policy):
        return policy
    raise InputError(
        f"Cannot ask a {type(policy).__name__} for actions: give a function, a network, a Policy, an object with "
        "predict, or a session of onnxruntime."
    )


def _network(forward: Callable[[Tensor], Tensor], home: Tensor) -> Callable[[Any], Any]:
    """Asked with rows [B, S] in torch, where its weights are."""

    @torch.no_grad()
    def ask(obs: Any) -> Any:
        rows = as_tensor(obs).to(home.device, torch.float32).reshape(-1, obs.shape[-1])
        action = forward(rows)
        return like(action.reshape(*obs.shape[:-1], action.shape[-1]), obs)

    return ask


def _rows(forward: Callable[[np.ndarray], Any]) -> Callable[[Any], Any]:
    """Asked with rows [B, S] in NumPy."""

    def ask(obs: Any) -> Any:
        rows = as_tensor(obs).detach().cpu().to(torch.float32).reshape(-1, obs.shape[-1]).numpy()
        action = as_tensor(np.asarray(forward(rows)))
        return like(action.reshape(*obs.shape[:-1], action.shape[-1]), obs)

    return ask


def _as_array(value: Any) -> Any:
    return value if isinstance(value, Tensor) else np.asarray(value)


def _no_policy(obs: Any) -> Any:
    raise InputError("CorrectActions corrects the actions that the environment is given; it has no policy to ask.")
