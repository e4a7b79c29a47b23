"""What `cdsa evaluate` can be told; apart from heavy imports, since jsonargparse resolves every name beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

__all__ = ["ROWS", "SINGLE", "Options", "add_rows", "build", "spell_out"]

Made = TypeVar("Made")

ROWS = 10_000
SINGLE = ("k1", "k2", "num_steps", "schedule", "state_step", "a2", "units", "gate", "max_shift")
"""Coefficients that can be given one by one."""

_FLAGS = ("--ablation", "--ensemble", "--quiet")


@dataclass(frozen=True)
class Options:
    """Evaluate a baseline against its corrected self.

    Args:
        baseline: An installed baseline, for instance iql; `cdsa datasets` and the README list them.
        task: Task to evaluate on; by default that of the checkpoint, or of the newest corrector.
        checkpoint: Of the baseline; by default the newest under runs/. Baselines such as random need none.
        corrector: A corrector.safetensors; by default the newest of the task under runs/. "none": the baseline alone.
        corrector_seed: Correct every training seed of the baseline with this one of the corrector, counted from 0.
        ensemble: Correct with the mean over the corrector's training seeds, as one corrector for every seed.
        preset: Take the newest corrector of this preset (paper or robust), and its recommended coefficients.
        coefficients: A file of coefficients, for instance what `cdsa tune` chose; single ones below override it.
        k1: Weight of the action score.
        k2: Weight of the inverse-dynamics action.
        num_steps: Passes over the schedule.
        schedule: Action sigmas visited in turn, for instance [0.4,0.2,0.1].
        state_step: How far along the state score the target of the inverse dynamics lies.
        a2: paper, residual or off.
        units: Of k1 and state_step: raw or sigma2.
        gate: Correct only where the predicted noise exceeds this quantile of the data's.
        max_shift: Longest correction, in action units.
        action_noise: Standard deviation of Gaussian noise on the baseline's actions, action units.
        ablation: Evaluate also without a1 (k1 = 0) and without a2 (k2 = 0).
        episodes: Episodes per training seed; by default the task's number.
        seed: Of the environments and of the noise.
        env_kwargs: Settings of the environment, for instance --env_kwargs.start corner or --env_kwargs.start [0.8,0.3].
        output: Directory of the results; by default runs/TASK/evaluate/DATE-TIME.
        runs: Where runs are looked up and kept.
        wandb: W&B mode: auto (online with a key, offline without), online, offline or off (also --no-wandb).
        threads: Threads of PyTorch; one is fastest for small networks.
        quiet: Print nothing.
    """

    baseline: str
    task: str | None = None
    checkpoint: str | None = None
    corrector: str | None = None
    corrector_seed: int | None = None
    ensemble: bool = False
    preset: str | None = None
    coefficients: str | None = None
    k1: float | None = None
    k2: float | None = None
    num_steps: int | None = None
    schedule: list[float] | None = None
    state_step: float | None = None
    a2: str | None = None
    units: str | None = None
    gate: float | None = None
    max_shift: float | None = None
    action_noise: float = 0.0
    ablation: bool = False
    episodes: int | None = None
    seed: int = 0
    env_kwargs: dict[str, bool | int | float | str | list[float]] | None = None
    output: str | None = None
    runs: str = "runs"
    wandb: str = "auto"
    threads: int = 1
    quiet: bool = False


def spell_out(argv: list[str]) -> list[str]:
    """A bare ``--quiet`` as ``--quiet=true``, and ``--no-wandb`` as ``--wandb=off``."""
    spelled = []
    for word, following in zip(argv, [*argv, "--"][1:], strict=True):
        bare = word in _FLAGS and following.startswith("-")
        spelled.append(f"{word}=true" if bare else "--wandb=off" if word in ("--no-wandb", "--no_wandb") else word)
    return spelled


def build(kind: type[Made], given: Mapping[str, Any]) -> Made:
    """The options of a dataclass out of all that were parsed; what was not asked for keeps its default."""
    own = {field.name for field in fields(kind)} & set(given)  # type: ignore[arg-type]
    return kind(**{name: given[name] for name in own})


def add_rows(parser: ArgumentParser) -> None:
    """The option --rows of commands that compare a policy with the data."""
    about = "Rows of data: so many to rank against, as many asked."
    parser.add_argument("--rows", type=int, default=ROWS, help=about)
