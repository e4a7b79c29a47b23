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

from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.core.gate import QUANTILES
from cdsa_lightning.core.policy import Policy, act
from cdsa_lightning.errors import InputError

__all__ = ["CorrectActions", "Explanation", "SafePolicy", "correct"]


class Explanation(NamedTuple):
    """An action and its parts, each [A] or [B, A] in action units; the last three are one number a row.

    `base_action` is the policy's, within the bounds. a1 and a2 are what the action score and the inverse dynamics
    added, `shift` = action - base_action. `clipped` says whether a bound changed an entry. `p_value` is the share of
    the data's actions that look at least as unusual as the policy's, to 1 %; NaN where the corrector's file does not
    know the data's.
    """

    action: Any
    base_action: Any
    a1: Any
    a2: Any
    shift: Any
    clipped: Any
    p_value: Any


class SafePolicy:
    """What `correct` returns: call it as you called the policy.

    Args:
        ask: Observations, as they come, to actions of the same kind and leading axes.
        corrector: Of one training seed.
        coefficients: None for the corrector's own.
    """

    def __init__(self, ask: Callable[[Any], Any], corrector: Corrector, coefficients: Coefficients | None) -> None:
        self._ask, self.corrector = ask, corrector.eval()
        self.coefficients = coefficients or corrector.coefficients
        self._levels = corrector.schedule(self.coefficients)
        if self.coefficients.gate is not None and not self._knows_noise:
            raise InputError("gate needs the data's noise, which this corrector's file lacks: fit the corrector again.")

    @property
    def _knows_noise(self) -> bool:
        return bool(self.corrector.noise_quantiles.any())

    def __call__(self, obs: Any) -> Any:
        """The corrected action; see `explain`."""
        return self.explain(obs).action

    def explain(self, obs: Any) -> Explanation:
        """The corrected action and its parts.

        Args:
            obs: [S] or [B, S], NumPy (or what becomes it) or torch.

        Raises:
            InputError: shapes that are not the corrector's, or an observation or an action that is NaN or infinite.
        """
        obs = obs if isinstance(obs, Tensor) else np.asarray(obs)
        self._check(obs, "observations", self.corrector.obs_dim, "[S] or [B, S]")
        return self.of(obs, self._ask(obs))

    @torch.no_grad()
    def of(self, obs: Any, action: Any) -> Explanation:
        """The same for an action that the policy has given already.

        Raises:
            InputError: as `explain`.
        """
        obs, action = (x if isinstance(x, Tensor) else np.asarray(x) for x in (obs, action))
        self._check(obs, "observations", self.corrector.obs_dim, "[S] or [B, S]")
        self._check(action, "actions of the policy", self.corrector.action_dim, "as the observations")
        if action.shape[:-1] != obs.shape[:-1]:
            raise InputError(f"The policy answered observations {tuple(obs.shape)} with actions {tuple(action.shape)}.")
        home = self.corrector.low
        rows, base = (torch.as_tensor(x).to(home).reshape(1, -1, x.shape[-1]) for x in (obs, action))
        base = torch.minimum(torch.maximum(base, self.corrector.low), self.corrector.high)
        parts = self.corrector.explain(rows, base, self.coefficients)
        made = (parts.action, base, parts.a1, parts.a2, parts.action - base, parts.clipped, self._p_value(rows, base))
        return Explanation(*(_as(part[0].reshape((*obs.shape[:-1], *part.shape[2:])), action) for part in made))

    def _check(self, value: Any, name: str, width: int, form: str) -> None:
        if value.ndim not in (1, 2) or value.shape[-1] != width:
            raise InputError(f"The corrector takes {name} {form} with {width} entries, got shape {tuple(value.shape)}.")
        finite = value.isfinite() if isinstance(value, Tensor) else np.isfinite(value)
        if not bool(finite.all()):
            raise InputError(f"{int((~finite).sum())} entries of the {name} are NaN or infinite.")

    def _p_value(self, obs: Tensor, action: Tensor) -> Tensor:
        """1 - F(|eps|), F the data's distribution of |eps| at the first level, out of its kept quantiles."""
        if not self._knows_noise:
            return torch.full(obs.shape[:2], float("nan"))
        nets, level = self.corrector.networks, self._levels[0]
        length = nets.action_noise(*nets.standardize(obs, action), level).norm(dim=-1).cpu().numpy()
        table = self.corrector.noise_quantiles[level][0].cpu().numpy()
        return torch.from_numpy(1.0 - np.interp(length, table, np.linspace(0, 1, QUANTILES))).float()


class CorrectActions(gym.Wrapper):
    """An environment in which every action is corrected on its way; `info` tells `shift` (its length) and `p_value`.

    Args:
        env: Its observations and actions are those of the corrector.
        corrector: A corrector, or its file.
        coefficients: None for the corrector's own.
        seed: Which training seed of the corrector, counted from 0, or ``mean``.

    Raises:
        InputError: a corrector of another task.
    """

    def __init__(
        self,
        env: gym.Env,
        corrector: Corrector | str | Path,
        coefficients: Coefficients | None = None,
        seed: int | str = 0,
    ) -> None:
        super().__init__(env)
        self.safe = SafePolicy(_no_policy, _corrector(corrector, seed), coefficients)
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
    policy: Any, corrector: Corrector | str | Path, coefficients: Coefficients | None = None, seed: int | str = 0
) -> SafePolicy:
    """Any policy, corrected.

    Args:
        policy: A function of observations, a network, a `Policy`, an object with `predict` (Stable-Baselines3, d3rlpy),
            or a session of onnxruntime. A function gets what you give: one observation or a batch, NumPy or torch.
        corrector: A corrector, or its file.
        coefficients: None for the corrector's own.
        seed: Which training seed of the corrector, counted from 0, or ``mean`` for the mean over all.

    Raises:
        InputError: nothing that could be asked for an action, a file that is no corrector, or no such seed.
    """
    return SafePolicy(_asker(policy), _corrector(corrector, seed), coefficients)


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
        rows = torch.as_tensor(obs).to(home.device, torch.float32).reshape(-1, obs.shape[-1])
        return _as(forward(rows).reshape(*obs.shape[:-1], -1), obs)

    return ask


def _rows(forward: Callable[[np.ndarray], Any]) -> Callable[[Any], Any]:
    """Asked with rows [B, S] in NumPy."""

    def ask(obs: Any) -> Any:
        rows = torch.as_tensor(obs).detach().cpu().to(torch.float32).reshape(-1, obs.shape[-1]).numpy()
        return _as(torch.as_tensor(np.asarray(forward(rows))).reshape(*obs.shape[:-1], -1), obs)

    return ask


def _as(value: Tensor, like: Any) -> Any:
    """`value` as NumPy, or on the device of `like`; as precise as `like` where both are floating point."""
    if isinstance(like, Tensor):
        same = like.dtype if like.is_floating_point() and value.is_floating_point() else value.dtype
        return value.to(like.device, same)
    array = value.cpu().numpy()
    return array.astype(like.dtype) if like.dtype.kind == array.dtype.kind == "f" else array


def _no_policy(obs: Any) -> Any:
    raise InputError("CorrectActions corrects the actions that the environment is given; it has no policy to ask.")
