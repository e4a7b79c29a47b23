r"""The correction against Eq. 10 of the CDSA paper (arXiv 2406.07541), written out anew in NumPy's double precision.

    a <- a + k1 d log p(a | s) / da + k2 I(s, s + d log p(s) / ds)

Scores are taken to the data's units first and multiplied there, one row at a time; the package works in standardised
units, many rows at once. Both must say the same: to 1e-11 in double precision, and in single to what is said below.
"""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector
from property_inputs import NETWORKS, PROPERTY, SIGMAS, coefficients, corrector, rows


class Reference:
    """Eq. 10 for one seed of a corrector, or for the mean over its members where it is an ensemble."""

    def __init__(self, corrector: Corrector, seed: int) -> None:
        nets = corrector.networks
        self.settings, self.members = nets.settings, nets.members
        self.seeds = range(nets.members) if nets.ensemble else [seed]
        self.values = {name: value.double().numpy() for name, value in corrector.state_dict().items()}
        self.index = slice(None) if nets.state_index is None else nets.state_index
        self.table = {level: self.values["noise_quantiles"][level, seed] for level in range(len(SIGMAS))}
        statistics = ("obs_mean", "obs_std", "action_mean", "action_std")
        self.obs_mean, self.obs_std, self.mean, self.std = (self.values[f"networks.{name}"] for name in statistics)

    def ask(self, net: str, slope: float, x: np.ndarray, level: int = 0) -> np.ndarray:
        answers = []
        for seed in self.seeds:
            y, row = x, level * self.members + seed
            for layer in range(4):
                weight, bias = (self.values[f"networks.{net}.layers.{layer}.{part}"] for part in ("weight", "bias"))
                y = (np.where(y > 0, y, slope * y) if layer else y) @ weight[row] + bias[row, 0]
            answers.append(y)
        return np.mean(answers, 0)

    def action_score(self, s: np.ndarray, a: np.ndarray, level: int) -> np.ndarray:
        """d log p / da in the data's units."""
        seen = np.concatenate([(s - self.obs_mean) / self.obs_std, (a - self.mean) / self.std])
        out = self.ask("action_score", 0.1, seen, level)
        return (out if self.settings.predict == "score" else -out / SIGMAS[level]) / self.std

    def state_score(self, s: np.ndarray, a: np.ndarray) -> np.ndarray:
        seen = [(s - self.obs_mean) / self.obs_std, (a - self.mean) / self.std]
        out = self.ask("state_score", 0.1, np.concatenate(seen[: 1 + (self.settings.state_score_input != "state")]))
        return (out if self.settings.predict == "score" else -out / self.settings.state_sigma) / self.obs_std

    def inverse(self, s: np.ndarray, target: np.ndarray) -> np.ndarray:
        seen = np.concatenate([(x - self.obs_mean) / self.obs_std for x in (s, target)])
        return self.mean + self.std * self.ask("inverse_dynamics", 0.2, seen)

    def length(self, s: np.ndarray, a: np.ndarray, level: int) -> float:
        """Of the predicted noise, -sigma times the score of the standardised action."""
        return float(np.linalg.norm(SIGMAS[level] * self.std * self.action_score(s, a, level)))

    def __call__(self, obs: np.ndarray, action: np.ndarray, c: Coefficients) -> tuple[np.ndarray, float]:
        """The corrected action of one row, and how far the gate is from turning over."""
        s, a = obs[self.index], action
        levels = [SIGMAS.index(sigma) for sigma in c.schedule or sorted(SIGMAS, reverse=True)] * c.num_steps
        margin = np.inf
        if c.gate is not None:
            threshold = np.interp(c.gate * 100, range(101), self.table[levels[0]])
            margin = self.length(s, a, levels[0]) - threshold
        if margin <= 0 or c.changes_nothing:
            return a, abs(margin)
        for level in levels:
            square = (SIGMAS[level] * self.std) ** 2 if c.units == "sigma2" else 1.0
            step = (self.settings.state_sigma * self.obs_std) ** 2 if c.units == "sigma2" else 1.0
            a2 = self.inverse(s, s + c.state_step * step * self.state_score(s, a)) if c.a2 != "off" else 0.0
            a2 = a2 - self.inverse(s, s) if c.a2 == "residual" else a2
            a = a + c.k1 * square * self.action_score(s, a, level) + c.k2 * a2
            a = np.clip(a, -1, 1) if c.clip == "every_step" else a
        a = np.clip(a, -1, 1)
        length = np.linalg.norm(a - action)
        if c.max_shift is not None and length > c.max_shift:
            a = action + (a - action) * c.max_shift / length
        return a, abs(margin)


def difference(made: Corrector, c: Coefficients, salt: int, dtype: torch.dtype) -> float:
    """The largest difference to the reference, in action units."""
    obs, action = rows(made.num_seeds, 8, salt)
    found = made.to(dtype)(obs.to(dtype), action.to(dtype), c).double().numpy()
    worst, compared = 0.0, 0
    for seed in range(made.num_seeds):
        reference = Reference(made, seed)
        for row in range(8):
            expected, margin = reference(obs[seed, row].double().numpy(), action[seed, row].double().numpy(), c)
            if margin > 1e-4:  # nearer than that the last bit may open the gate
                worst, compared = max(worst, np.abs(found[seed, row] - expected).max()), compared + 1
    assert compared > made.num_seeds * 4
    return worst


@PROPERTY
@given(NETWORKS, coefficients(), st.integers(0, 2**16), st.booleans())
def test_in_double_precision_the_correction_is_equation_10(values, c, salt, ensemble):
    made = corrector(values)
    made = (made.ensemble() if ensemble else made).double()
    assert difference(made, Coefficients(**c), salt, torch.float64) < 1e-11


@PROPERTY
@given(NETWORKS, coefficients(), st.integers(0, 2**16), st.booleans())
def test_in_single_precision_it_is_equation_10_but_for_rounding(values, c, salt, ensemble):
    made = corrector(values)
    made = made.ensemble() if ensemble else made
    assert difference(made, Coefficients(**c), salt, torch.float32) < 2e-5
