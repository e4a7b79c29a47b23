r"""How far outside its data a policy acts, as the action score sees it.

    eps(s, a) = -sigma g_sigma(s, a)                       predicted noise: the standardised way back to the data
    r    = E|eps(s, a1)| / E|eps(s, a_data)|               1 where the policy acts as the data do
    rho  = E[eps(s, a1) . eps(s, a2)] / E|eps(s, a1)|^2    1: its deviation is systematic, 0: it is noise
    tau  = sigma sqrt(L / (1 - L)) / sd(a),  L = E|eps(s, a_data + sigma z) - z|^2 / A        z ~ N(0, 1)
    f_q  = share of |eps(s, a1)| above the data's q % quantile
    p(x) = (1 + #{reference >= x}) / (1 + #reference)      rank among the data: uniform where the data are measured
    D    = int_0^1 g_sigma(s, a + t (a' - a)) . (a' - a) dt = log p_sigma(a' | s) - log p_sigma(a | s)

a1 and a2 are two independent answers of the policy in the same state of the data. A deterministic policy gives one
answer, so its rho is 1: whatever it deviates by, it deviates by always. tau, of the data alone, is how much of their
actions' spread is left where the state is known: for a = m(s) + tau sd(a) z the best denoiser's loss is
L = tau^2 / (tau^2 + sigma^2). It is 0 for a deterministic behaviour and 1 for actions that do not depend on the state.
D > 0 means that a correction from a to a' led towards higher density of the data (smoothed by sigma).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from cdsa_lightning.audit.findings import Audit, Drift, Measures, Step, Walk
from cdsa_lightning.audit.reference import Reference, p_values
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.policy import Policy, act
from cdsa_lightning.errors import InputError
from cdsa_lightning.rollout import Episodes

__all__ = ["audit", "walk"]

_WORST = 10


def audit(
    policy: Policy,
    reference: Reference,
    coefficients: Coefficients,
    arms: Mapping[str, Episodes] | None = None,
    seed: int = 0,
) -> Audit:
    """Measure a policy in states of the data and along episodes.

    Args:
        policy: The baseline.
        reference: The data as the corrector sees them.
        coefficients: Of the corrections whose drift is measured.
        arms: Recorded episodes by the name of the policy; those of a corrected one tell the drift along them.
        seed: Of a stochastic policy.

    Raises:
        InputError: the policy answers NaN or infinite actions.
    """
    noise, measures, drifts = _on_data(policy, reference, coefficients, seed)
    drift = {"in states of the data": Drift(drifts)}
    walks = {name: walk(episodes, reference) for name, episodes in (arms or {}).items()}
    for name, episodes in (arms or {}).items():
        if episodes.shift.any():
            drift[f"along {name}"] = Drift(_along(episodes, reference))
    return Audit(measures, noise, np.concatenate(reference.lengths), walks, drift)


def walk(episodes: Episodes, reference: Reference) -> Walk:
    """How unusual each step of recorded episodes is.

    Raises:
        InputError: no episode was recorded.
    """
    if not episodes.traces:
        raise InputError("No episode was recorded: roll out with record >= 1.")
    noise, ranks, outside = [], [], []
    for trace in episodes.traces:
        lengths = reference.length(trace.seed, *_tensors(trace.obs[:-1], trace.action))
        data = reference.lengths[reference.member(trace.seed)]
        noise.append(lengths)
        ranks.append(p_values(lengths, data))
        outside.append(lengths[:, None] > np.quantile(data, (0.9, 0.99)))
    f90, f99 = np.concatenate(outside).mean(axis=0).tolist()
    return Walk(noise, ranks, f90, f99, list(_worst(episodes, noise, ranks)), float(episodes.returns.mean()))


def _worst(episodes: Episodes, noise: list[np.ndarray], ranks: list[np.ndarray]) -> Iterator[Step]:
    """The steps with the longest predicted noise, longest first."""
    owner = np.repeat(np.arange(len(noise)), [len(lengths) for lengths in noise])
    step = np.concatenate([np.arange(len(lengths)) for lengths in noise])
    for row in np.argsort(-np.concatenate(noise), kind="stable")[:_WORST].tolist():
        index, at = int(owner[row]), int(step[row])
        trace = episodes.traces[index]
        length, rank = float(noise[index][at]), float(ranks[index][at])
        yield Step(trace.seed, trace.episode, at, length, rank, trace.obs[at].tolist(), trace.action[at].tolist())


def _on_data(
    policy: Policy, reference: Reference, coefficients: Coefficients, seed: int
) -> tuple[np.ndarray, Measures, np.ndarray]:
    """|eps| of the policy's actions, the measures, and D of their corrections, all seeds pooled."""
    first, second = (_answers(policy, reference.obs, 2 * seed + i) for i in (0, 1))
    lengths, products, usual, above, drifts = [], [], [], [], []
    for row in range(max(len(first), len(reference.members))):
        a1, a2 = first[row % len(first)], second[row % len(second)]
        e1, e2 = (reference.noise(row, reference.obs, a) for a in (a1, a2))
        lengths.append(e1.norm(dim=-1).double().numpy())
        products.append((e1 * e2).sum(-1).double().numpy())
        usual.append(reference.length(row, reference.obs, reference.action))
        quantiles = np.quantile(reference.lengths[reference.member(row)], (0.9, 0.99))
        above.append(lengths[-1][:, None] > quantiles)
        corrector = reference.members[reference.member(row)]
        with torch.no_grad():
            corrected = corrector.explain(reference.obs[None], a1[None], coefficients).action[0]
        drifts.append(reference.drift(row, reference.obs, a1, corrected))
    noise, product, data = (np.concatenate(parts) for parts in (lengths, products, usual))
    f90, f99 = np.concatenate(above).mean(axis=0).tolist()
    square = float((noise**2).mean())
    rho = float(product.mean()) / square if square else 1.0
    r = float(noise.mean() / data.mean()) if data.mean() else float(noise.mean() > 0)
    return (
        noise,
        Measures(r, rho, f90, f99, reference.sigma, len(reference.obs), reference.spread),
        np.concatenate(drifts),
    )


@torch.no_grad()
def _answers(policy: Policy, obs: Tensor, seed: int) -> Tensor:
    """The policy's actions in the same states, [E, N, A]."""
    policy.reseed(seed)
    action = act(policy.eval(), obs.expand(policy.num_seeds, *obs.shape).contiguous().to(policy.low.device)).cpu()
    if not bool(action.isfinite().all()):
        raise InputError(f"{int((~action.isfinite()).sum())} of the policy's actions on the data are NaN or infinite.")
    return action


def _along(episodes: Episodes, reference: Reference) -> np.ndarray:
    """D of every correction of recorded episodes."""
    traces = episodes.traces
    parts = [reference.drift(t.seed, *_tensors(t.obs[:-1], t.base_action, t.action)) for t in traces]
    return np.concatenate(parts) if parts else np.zeros(0)


def _tensors(*arrays: np.ndarray) -> tuple[Tensor, ...]:
    return tuple(torch.as_tensor(array, dtype=torch.float32) for array in arrays)
