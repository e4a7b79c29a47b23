r"""Environments: many copies side by side (`make_lanes`), and this package's gymnasium ids, registered on import.

Other packages announce theirs, each as a function without arguments that registers them:

    [project.entry-points."cdsa.environments"]
    line = "my_package:register"
"""

from __future__ import annotations

import functools
import warnings
from importlib.metadata import entry_points
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.vector import VectorEnv

from cdsa_lightning.envs.lanes import FrozenLanes, Lanes
from cdsa_lightning.envs.maps import WorldMap
from cdsa_lightning.errors import InputError

__all__ = [
    "ANTMAZE",
    "FrozenLanes",
    "GROUP",
    "Lanes",
    "make",
    "make_lanes",
    "register",
    "register_installed",
    "world_map",
]

GROUP = "cdsa.environments"

ANTMAZE = {  # id: (maze, horizon); play and diverse differ in their datasets, not in D4RL's evaluation
    "AntMazeUMaze": ("umaze", 700),
    "AntMazeUMazeDiverse": ("umaze", 700),
    "AntMazeMediumPlay": ("medium", 1000),
    "AntMazeMediumDiverse": ("medium", 1000),
    "AntMazeLargePlay": ("large", 1000),
    "AntMazeLargeDiverse": ("large", 1000),
}


_TRANSPORTATION = {
    "RiskyTransportation": "path",
    "RiskyTransportationGoods": "goods",
    "RiskyTransportationAirport": "airport",
}


def register() -> None:
    """Make the package's environments known to gymnasium; a second call changes nothing."""
    if "cdsa/RiskyPointMass-v0" not in gym.registry:
        module = "cdsa_lightning.envs.risky_pointmass"
        # The environment counts its own 100 steps, alone and as a vector: no TimeLimit around it.
        gym.register(
            "cdsa/RiskyPointMass-v0",
            entry_point=f"{module}:RiskyPointMass",
            vector_entry_point=f"{module}:RiskyPointMassVector",
        )
    for name, task in _TRANSPORTATION.items():
        if f"cdsa/{name}-v0" not in gym.registry:
            module = "cdsa_lightning.envs.risky_transportation"
            gym.register(
                f"cdsa/{name}-v0",
                entry_point=f"{module}:RiskyTransportation",
                vector_entry_point=f"{module}:RiskyTransportationVector",
                kwargs={"task": task},
            )
    for name, (maze, steps) in ANTMAZE.items():
        if f"cdsa/{name}-v0" not in gym.registry:
            gym.register(
                f"cdsa/{name}-v0",
                entry_point="cdsa_lightning.envs.antmaze:AntMaze",
                kwargs={"maze": maze},
                max_episode_steps=steps,
            )


@functools.cache
def register_installed() -> None:
    """Make the environments of other installed packages known to gymnasium, once in a process.

    Raises:
        InputError: a package's function failed.
    """
    for point in entry_points(group=GROUP):
        try:
            point.load()()
        except Exception as error:  # A stranger's code, which may raise anything.
            raise InputError(
                f"The environments {point.name!r} ({point.value}) cannot be registered: {type(error).__name__}: "
                f"{error}. Repair or uninstall the package."
            ) from error


def world_map(env_id: str, **kwargs: Any) -> WorldMap | None:
    """The map of a world that has one; None for others.

    Args:
        env_id: Any gymnasium id.
        **kwargs: Keywords of the environment.

    Raises:
        InputError: gymnasium does not know the id, or the keywords do not fit the environment.
    """
    spec = _spec(env_id)
    if not isinstance(spec.entry_point, str) or not spec.entry_point.startswith("cdsa_lightning."):
        return None
    draw = getattr(load_env_creator(spec.entry_point), "world_map", None)
    if draw is None:
        return None
    try:
        return draw(**{**spec.kwargs, **kwargs})
    except TypeError as error:
        raise InputError(f"{env_id} has no map with {kwargs}: {error}.") from error


def make(env_id: str, **kwargs: Any) -> gym.Env:
    """`gymnasium.make` without its word that a version is out of date: D4RL's Walker2d is v4 all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return gym.make(env_id, **kwargs)


def make_lanes(env_id: str, num_envs: int, **kwargs: Any) -> VectorEnv:
    """`num_envs` copies of an environment, each frozen once it is finished, by the fastest means there is.

    Args:
        env_id: Any gymnasium id.
        num_envs: Number of copies.
        **kwargs: Keywords of the environment.

    Returns:
        `MujocoLanes` for Hopper, HalfCheetah, Walker2d; the environment's own vector form where it follows the same
        protocol; else `Lanes`.

    Raises:
        InputError: gymnasium does not know the id, or the spaces are not Boxes of one dimension.
    """
    from cdsa_lightning.envs.mujoco import MUJOCO_LANES, MujocoLanes  # here: MuJoCo takes .2 s to import

    if env_id in MUJOCO_LANES and kwargs.get("render_mode") is None:
        return MujocoLanes(env_id, num_envs, **kwargs)
    spec = _spec(env_id)
    if isinstance(spec.vector_entry_point, str):
        creator: Any = load_env_creator(spec.vector_entry_point)
        if isinstance(creator, type) and issubclass(creator, FrozenLanes):
            return creator(num_envs, **{**spec.kwargs, **kwargs})
    return Lanes([lambda: make(env_id, **kwargs) for _ in range(num_envs)])


def _spec(env_id: str) -> EnvSpec:
    try:
        return gym.spec(env_id)
    except gym.error.Error as error:
        raise InputError(f"No environment {env_id!r}: {error}") from error


register()
