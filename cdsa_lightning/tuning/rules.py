r"""Two rules for when to correct; "no correction" is always an answer.

    returns    correct if and only if the policy's mean return is below that of the data, unless it acts systematically
               far outside (r sqrt(rho) >= 2.7): a correction restores what the data's behaviour reaches, from below and
               from above, where the way back is short. Ten episodes suffice.
    data       from states of the data alone (`cdsa_lightning.audit`), the first that applies:
               tau >= .7                              none: the data's actions are nearly random given the state, there
                                                      is no behaviour that could be restored
               r <= 1.1 and f99 <= .015               none: the policy acts as the data do
               rho < .5, or r sqrt(1 - rho) >= 1.5    ann3: the deviation is noise, or noise is more than in the data
               and r sqrt(rho) < 4                    and the rest not far
               f99 < .12                              gate90: few actions lie outside
               else                                   none: systematically outside, for better or worse; only returns
                                                      can tell

Data of another task (`Task.corrected_by`) show what is safe there, not what this task rewards: neither rule corrects by
them. Where a task has recommended coefficients of another kind than ann3, they stand in for ann3, and nothing for
gate90. The data rule's thresholds were fitted at sigma .4 of standardised actions on MuJoCo tasks (docs/results.md).
"""

from __future__ import annotations

from collections.abc import Collection

from cdsa_lightning.audit import FAR_BIAS, KINDS, SIGMA, Measures
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.tuning.returns import Returns

__all__ = ["SELECTORS", "choose", "data_rule", "return_rule"]

SELECTORS = ("auto", "returns", "data", "none")

_BY_KIND = {"unknown": "none", "inside": "none", "noisy": "ann3", "mild": "gate90", "systematic": "none"}
_FEW = 10


def choose(
    selector: str, known: Collection[str], measures: Measures, returns: Returns | None = None, data_of: str = ""
) -> tuple[str, str, str]:
    """The candidate, the rule that chose it, and the reason in a sentence.

    Args:
        selector: One of `SELECTORS`; auto: by returns where there are any, else by data.
        known: Names of the candidates.
        measures: Of the policy in states of the data.
        returns: Of the policy's own episodes.
        data_of: The task that the data are of, where it is another than the policy's.

    Raises:
        InputError: an unknown selector, or the return rule without returns.
    """
    if selector not in SELECTORS:
        raise unknown_name("selector", selector, SELECTORS)
    if selector == "none":
        return "none", "none", "No correction, as asked for."
    if selector == "data" or (selector == "auto" and returns is None):
        name, reason = data_rule(measures, known, data_of)
        return name, "data", reason
    if returns is None:
        raise InputError(
            "The return rule needs returns of the policy's own episodes: name a file with --returns, or allow the "
            "environment with --with_env."
        )
    name, reason = return_rule(returns, known, measures)
    return name, "returns", reason


def data_rule(
    measures: Measures, known: Collection[str] = ("none", "ann3", "gate90"), data_of: str = ""
) -> tuple[str, str]:
    """The candidate and the reason, from states of the data alone; arguments as of `choose`."""
    name, m = _BY_KIND[measures.kind], measures
    if "recommended" in known:
        name = {"ann3": "recommended", "gate90": "none"}.get(name, name)
    numbers = f"r {m.r:.2f}, rho {m.rho:.2f}, noise {m.noise:.2f}, f99 {m.f99:.1%} at sigma {m.sigma:g}"
    said = f"In states of the data the policy {KINDS[m.kind]} ({numbers})"
    if data_of:
        return "none", (
            f"{said}, but these are data of {data_of}: they show what is safe, not what a correction costs in this "
            "task's rewards: no correction; only the environment can tell (--with_env --trials)."
        )
    if name not in known:
        return "none", f"{said}, but {name} needs the data's noise, which the corrector's file lacks: no correction."
    end = {
        "unknown": f"there is no behaviour to restore (tau {m.spread:.2f}); decide with returns (--returns)",
        "inside": "there is nothing to correct",
        "noisy": "the correction takes the noise off",
        "mild": "a gated correction touches only what lies outside"
        if name == "gate90"
        else "too few to move the others by the recommended correction; decide with returns (--returns)",
        "systematic": "it may be better or worse than the data: no correction; decide with returns (--returns)",
    }[m.kind]
    doubt = "" if m.sigma == SIGMA else f" The rule was fitted at sigma {SIGMA:g}, which this corrector lacks."
    return name, f"{said}: {end}.{doubt}"


def return_rule(
    returns: Returns, known: Collection[str] = ("none", "ann3"), measures: Measures | None = None
) -> tuple[str, str]:
    """The candidate and the reason, from the policy's returns: the recommended correction or none.

    Args:
        returns: Of the policy and of the data.
        known: Names of the candidates.
        measures: Of the policy in states of the data; without them nothing is known about how far it lies outside.
    """
    count = len(returns.values)
    few = f" Fewer than {_FEW} episodes can mislead." if count < _FEW else ""
    policy = f"mean return over {count} episode{'' if count == 1 else 's'}, {returns.mean:.1f},"
    if returns.mean >= returns.data_mean:
        return "none", f"The policy's {policy} is not below the data's, {returns.data_mean:.1f}: no correction.{few}"
    if measures is not None and measures.kind == "systematic" and measures.bias >= FAR_BIAS:
        return "none", (
            f"The policy's {policy} is below the data's, {returns.data_mean:.1f}, but it acts so far outside them "
            f"(r sqrt(rho) {measures.bias:.2f}, limit {FAR_BIAS:g}) that a correction harms more often than it helps: "
            f"no correction; only the environment can tell (--with_env --trials).{few}"
        )
    name = "recommended" if "recommended" in known else "ann3"
    return name, f"The policy's {policy} is below the data's, {returns.data_mean:.1f}: {name} restores it.{few}"
