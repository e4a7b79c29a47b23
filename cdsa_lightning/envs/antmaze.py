r"""D4RL's AntMaze on gymnasium-robotics: observe xy, 13 other positions, 14 velocities; reward 1 at the goal.

D4RL's evaluation (v2) is followed in every number that a policy can feel: start in the fixed start cell; goal in the
far corner's cell with fresh noise U(0, 1) + U(0, .5) per axis each episode, for play and diverse alike (the two differ
in their datasets only); success within 0.5; reset noise .1 on all joints; time step .02, torque 30, solimp .8 .8 .01.
D4RL's frame has its origin in the start cell and y running down the map's rows; gymnasium-robotics centres the maze and
lets y run up. The map is handed over upside down, so that only a shift remains between the two frames.
Source: Fu et al., D4RL (arXiv 2004.07219), repository Farama-Foundation/D4RL, d4rl/locomotion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium_robotics.envs.maze import maps
from gymnasium_robotics.envs.maze.ant_maze_v5 import AntMazeEnv

from cdsa_lightning.errors import InputError, unknown_name

__all__ = ["FEATURES", "MAZES", "START", "AntMaze", "cell_of", "place_of"]

MAZES: dict[str, tuple[list, tuple[int, int]]] = {
    "umaze": (maps.U_MAZE, (3, 1)),
    "medium": (maps.MEDIUM_MAZE, (6, 6)),
    "large": (maps.LARGE_MAZE, (7, 9)),
}
"""The map and the cell (row, column) of the goal; every episode starts in cell (1, 1)."""

START = (1, 1)
CELL = 4.0
RADIUS = 0.5
FEATURES = 27  # 13 positions without xy and 14 velocities; contact forces follow in gymnasium's observation


def place_of(cell: tuple[int, int]) -> np.ndarray:
    """The middle of a cell (row, column) in the observation's frame, [2]."""
    return CELL * np.array([cell[1] - START[1], cell[0] - START[0]], np.float64)


def cell_of(place: np.ndarray) -> tuple[int, int]:
    """The cell (row, column) around a place [2] of the observation's frame."""
    column, row = np.round(np.asarray(place) / CELL).astype(int).tolist()
    return row + START[0], column + START[1]


class _D4RLMaze(AntMazeEnv):
    """gymnasium-robotics' maze with D4RL's start, goal and radius."""

    def __init__(self, maze: str, render_mode: str | None) -> None:
        plan, self._goal_cell = MAZES[maze]
        self.start = START
        self._rows = len(plan)
        super().__init__(render_mode=render_mode, maze_map=plan[::-1], reward_type="sparse", continuing_task=False)
        Path(self.tmp_xml_file_path).unlink(missing_ok=True)  # read already; gymnasium-robotics leaves it behind
        ant: Any = self.ant_env
        ant.model.opt.timestep = 0.02
        ant.model.actuator_gear[:, 0] = 30.0
        ant.model.geom_solimp[:, :3] = (0.8, 0.8, 0.01)
        ant._reset_noise_scale = 0.1

    def centre(self, cell: tuple[int, int]) -> np.ndarray:
        """The middle of a cell of the original map, in the simulation's frame, [2]."""
        return self.maze.cell_rowcol_to_xy(np.array([self._rows - 1 - cell[0], cell[1]]))

    def generate_target_goal(self) -> np.ndarray:
        rng = self.np_random
        return self.centre(self._goal_cell) + rng.uniform(0, 1, size=2) + rng.uniform(0, 0.5, size=2)

    def generate_reset_pos(self) -> np.ndarray:
        return self.centre(self.start)

    def add_xy_position_noise(self, xy_pos: np.ndarray) -> np.ndarray:
        return xy_pos  # the goal has D4RL's noise already, the start has the joints'

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: dict) -> float:
        return float(np.linalg.norm(achieved_goal - desired_goal) <= RADIUS)

    def compute_terminated(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: dict) -> bool:
        return bool(np.linalg.norm(achieved_goal - desired_goal) <= RADIUS)


class AntMaze(gym.Env):
    """An ant in a maze with D4RL's observation and evaluation; see the module's description.

    Args:
        maze: "umaze", "medium" or "large".
        render_mode: None, "human", "rgb_array" or "depth_array".

    Raises:
        InputError: an unknown maze.
    """

    metadata = AntMazeEnv.metadata

    def __init__(self, maze: str = "umaze", render_mode: str | None = None) -> None:
        if maze not in MAZES:
            raise unknown_name("maze", maze, MAZES)
        self.maze, self._env = maze, _D4RLMaze(maze, render_mode)
        self.render_mode = render_mode
        self.action_space = self._env.action_space
        self.observation_space = Box(-np.inf, np.inf, (2 + FEATURES,), np.float64)
        self._origin = self._env.centre(START)

    @property
    def goal(self) -> np.ndarray:
        """This episode's goal in the observation's frame, [2]; policies do not see it."""
        return self._env.goal - self._origin

    def _flatten(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate((obs["achieved_goal"] - self._origin, obs["observation"][:FEATURES]))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode with a fresh goal in the goal cell.

        Args:
            seed: Of the goal and of the joints' noise.
            options: ``start``: the cell (row, column) to start in instead of D4RL's, for collecting data.

        Raises:
            InputError: a wall stands there.
        """
        super().reset(seed=seed)
        row, column = self._env.start = (options or {}).get("start", START)
        plan = MAZES[self.maze][0]
        if not (0 <= row < len(plan) and 0 <= column < len(plan[0])) or plan[row][column] == 1:
            raise InputError(f"No ant can start in cell {(row, column)} of the maze {self.maze!r}: it is a wall.")
        obs, _ = self._env.reset(seed=seed)
        return self._flatten(obs), {"success": False}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply joint torques [8] in [-1, 1]."""
        obs, reward, terminated, truncated, _ = self._env.step(action)
        return self._flatten(obs), float(reward), terminated, truncated, {"success": terminated}

    def render(self) -> Any:
        """A frame, as MuJoCo draws it."""
        return self._env.render()

    def close(self) -> None:
        """Free the renderer."""
        self._env.close()
