"""A policy, its corrector and the data behind it, for commands that compare what the policy does with the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cdsa_lightning.commands.options import Options
from cdsa_lightning.errors import InputError

if TYPE_CHECKING:
    from cdsa_lightning.core.corrector import CorrectedPolicy
    from cdsa_lightning.core.policy import Policy
    from cdsa_lightning.sources import Transitions
    from cdsa_lightning.tasks import Task

__all__ = ["Corrected", "find_corrected"]


@dataclass(frozen=True)
class Corrected:
    """What was found: `policy` is the corrected `baseline`, `arms` are both by name, `about` is for the record."""

    task: Task
    baseline: str
    policy: CorrectedPolicy
    arms: dict[str, Policy]
    data: Transitions
    about: dict[str, Any]


def find_corrected(options: Options) -> Corrected:
    """What `cdsa evaluate` would take, and what the corrector was fitted on; each choice is printed.

    Raises:
        InputError: something named does not exist or does not fit, something not named was not found, or there are no
            data.
    """
    import torch

    from cdsa_lightning.commands.arms import find_subject, make_arms
    from cdsa_lightning.commands.found import fitted_on
    from cdsa_lightning.core.corrector import CorrectedPolicy

    if options.corrector == "none":
        raise InputError("This command asks a corrector's score networks: leave --corrector out, or name a file.")
    torch.set_num_threads(options.threads)
    subject = find_subject(options)
    arms, about = make_arms(options, subject)
    policy = next(arm for arm in arms.values() if isinstance(arm, CorrectedPolicy))
    data = fitted_on(policy.corrector)
    subject.notes.append(f"data          {data.source} ({len(data)} rows)")
    if not options.quiet:
        print("\n".join(subject.notes))
    return Corrected(subject.task, next(iter(arms)), policy, arms, data, {**about, "data": data.source})
