"""What a checkpoint is, told without running anything in it: the answer of a baseline's ``inspect(path)``."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Inspection"]


@dataclass(frozen=True)
class Inspection:
    """What one file holds.

    Attributes:
        format: The kind of file, for instance ``Stable-Baselines3 zip``.
        algorithm: What trained it, as far as the file says.
        obs_dim: S, observation entries; None where the file does not say.
        action_dim: A, action entries; None where the file does not say.
        statistics: How observations are normalised, and where the numbers come from.
        num_seeds: Training seeds inside.
        task: The task it was trained on, where the file says so.
        details: Anything else worth knowing, by name.
        notes: Sentences of warning.
        acts: Whether it is a policy; False for a part of one, which nothing can be done with alone.
    """

    format: str
    algorithm: str
    obs_dim: int | None
    action_dim: int | None
    statistics: str
    num_seeds: int = 1
    task: str | None = None
    details: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    acts: bool = True
