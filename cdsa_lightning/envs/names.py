"""What the entries of an observation are called, for pictures and for whoever names two of them.

The robots' entries follow the tables of gymnasium's documentation; a velocity carries the name of what moves.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdsa_lightning.errors import unknown_name

__all__ = ["observation_index", "observation_names"]


def _robot(*angles: str) -> tuple[str, ...]:
    """The height z and all angles, then the velocities of x, z and all angles."""
    return ("z", *(f"{angle}_angle" for angle in angles), *(f"{part}_velocity" for part in ("x", "z", *angles)))


_TRANSPORTATION = ("x", "y", "task_path", "task_goods", "task_airport", "has_goods", "has_flown")
_LEG, _LEFT = ("thigh", "leg", "foot"), ("left_thigh", "left_leg", "left_foot")

_NAMES = {
    "Hopper": _robot("torso", *_LEG),
    "HalfCheetah": _robot("tip", "back_thigh", "back_shin", "back_foot", "front_thigh", "front_shin", "front_foot"),
    "Walker2d": _robot("torso", *_LEG, *_LEFT),
    "RiskyPointMass": ("x", "y", "goal_x", "goal_y"),
    "RiskyTransportation": _TRANSPORTATION,
    "AntMaze": ("x", "y", "z"),
}


def observation_names(env_id: str, obs_dim: int) -> tuple[str, ...]:
    """A name for each of `obs_dim` entries of an observation; obs_3, obs_4, ... where none is known.

    Args:
        env_id: Gymnasium id; its version does not matter, and ids that start alike are named alike.
        obs_dim: Entries of an observation. Where there are fewer than the environment usually has, none has a name.
    """
    world = env_id.rpartition("/")[2].partition("-")[0]
    known = next((names for start, names in _NAMES.items() if world.startswith(start)), ())
    if len(known) > obs_dim or (len(known) < obs_dim and not world.startswith("AntMaze")):
        known = ()
    return (*known, *(f"obs_{entry}" for entry in range(len(known), obs_dim)))


def observation_index(names: Sequence[str], wanted: str) -> int:
    """Which entry `wanted` is: one of `names`, or the number of an entry, counted from 0.

    Raises:
        InputError: it is neither.
    """
    if wanted in names:
        return list(names).index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    remedy = f"Or write a number, 0 to {len(names) - 1}."
    raise unknown_name("observation entry", wanted, names, remedy)
