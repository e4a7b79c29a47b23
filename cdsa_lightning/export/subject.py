"""What is exported: a corrector of one training seed, alone or behind a policy, and what the file says about itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Corrector
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.export.graph import CorrectorGraph, PolicyGraph
from cdsa_lightning.export.single import exportable

__all__ = ["Subject", "subject"]


@dataclass(frozen=True)
class Subject:
    """What a file is made of.

    Args:
        graph: The module that is written; rows [B, S] (and [B, A]) to [B, A].
        corrector: Of one training seed or an ensemble, on the CPU.
        coefficients: Those that are written.
        policy: Of one training seed; None for the corrector alone.
        about: Plain values for the file: task, seed, coefficients, bounds, what is fused, ...
    """

    graph: nn.Module
    corrector: Corrector
    coefficients: Coefficients
    policy: Policy | None
    about: dict[str, Any]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what the graph takes."""
        return ("obs", "action") if self.policy is None else ("obs",)

    @torch.no_grad()
    def eager(self, obs: Tensor, action: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What PyTorch answers without any export: the policy in float32, the correction in `dtype`; [B, A]."""
        base = action if self.policy is None else self.policy(obs)
        corrector = self.corrector if dtype == torch.float32 else copy.deepcopy(self.corrector).to(dtype)
        return corrector(obs.to(dtype)[None], base.to(dtype)[None], self.coefficients)[0]


def subject(
    corrector: Corrector,
    coefficients: Coefficients | None = None,
    seed: int | str = 0,
    policy: Policy | None = None,
    policy_seed: int = 0,
    name: str = "The policy",
) -> Subject:
    """One training seed of a corrector, and of a policy, ready for export.

    Args:
        corrector: One or more seeds.
        coefficients: None for the corrector's own.
        seed: Which of the corrector's seeds, counted from 0, or ``mean`` for the mean over all.
        policy: What to fuse it with; None for the corrector alone.
        policy_seed: Which of the policy's seeds, counted from 0.
        name: What the policy is called.

    Raises:
        InputError: no such seed, a policy that cannot become a graph or does not fit the corrector, a sigma that was
            not trained, or a gate without the data's noise.
    """
    c = coefficients or corrector.coefficients
    if isinstance(seed, str) and seed != "mean":
        raise InputError(f"seed must be a number or 'mean', got {seed!r}.")
    mean = seed == "mean" or corrector.networks.ensemble
    one = (corrector.ensemble() if mean else corrector.select(int(seed))).cpu().eval()
    one.coefficients = c
    graph = CorrectorGraph(one, c)
    about = _about(one, c)
    about["corrector"] = {**corrector.info, "seed": "mean" if mean else seed, "seeds_of_file": corrector.num_seeds}
    if policy is None:
        return Subject(graph.eval(), one, c, None, about)
    fused = exportable(policy, name, policy_seed, one.obs_dim)
    CorrectedPolicy(fused, one, c)  # sees that they fit
    about["kind"], about["policy"] = "policy", {"name": name, "seed": policy_seed, "seeds_of_file": policy.num_seeds}
    return Subject(PolicyGraph(fused, graph).eval().requires_grad_(False), one, c, fused, about)


def _about(one: Corrector, c: Coefficients) -> dict[str, Any]:
    return {
        "kind": "corrector",
        "coefficients": c.to_dict(),
        "obs_dim": one.obs_dim,
        "action_dim": one.action_dim,
        "low": one.low.tolist(),
        "high": one.high.tolist(),
    }
