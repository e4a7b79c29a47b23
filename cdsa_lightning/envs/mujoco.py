r"""Hopper, HalfCheetah and Walker2d stepped in lockstep: MuJoCo per lane, everything else once for all lanes.

    reward = w_f (x' - x) / dt + healthy_reward - w_c |a|^2

One gymnasium environment gives the model and every constant; each lane is an `mujoco.MjData`. Observations, rewards and
flags are then a few NumPy operations over all lanes, in gymnasium's own order of operations, so that the numbers are
the same bit for bit. `mj_rnePostConstraint`, which gymnasium calls after each step, fills fields that these three
environments never read, and is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import mujoco
import numpy as np

from cdsa_lightning.envs import make
from cdsa_lightning.envs.lanes import FrozenLanes
from cdsa_lightning.errors import unknown_name

__all__ = ["MUJOCO_LANES", "MujocoLanes"]

MUJOCO_LANES = tuple(f"{name}-{version}" for name in ("Hopper", "HalfCheetah", "Walker2d") for version in ("v4", "v5"))
"""The environments that `MujocoLanes` steps natively."""

_log = logging.getLogger(__name__)


def _tell(message: str) -> None:
    """What MuJoCo has to say, which it would otherwise write into MUJOCO_LOG.TXT in the user's folder."""
    _log.log(logging.INFO if "deprecated" in message else logging.WARNING, "MuJoCo: %s", message)


mujoco.set_mju_user_warning(_tell)


class MujocoLanes(FrozenLanes):
    """`num_envs` copies of a gymnasium MuJoCo environment, bit-equal to ``gymnasium.make(env_id)``.

    Args:
        env_id: One of `MUJOCO_LANES`.
        num_envs: Number of lanes; each holds about half a megabyte.
        **kwargs: Keywords of the gymnasium environment (reward weights, healthy ranges, reset noise, ...).

    Raises:
        InputError: another environment.
    """

    def __init__(self, env_id: str, num_envs: int, **kwargs: Any) -> None:
        if env_id not in MUJOCO_LANES:
            raise unknown_name("native MuJoCo environment", env_id, MUJOCO_LANES, "make_lanes() takes any environment.")
        template = make(env_id, **kwargs)
        super().__init__(num_envs, template.observation_space, template.action_space, template.render_mode)
        # gymnasium keeps these constants in private attributes and offers no other way to read them.
        self._constants = cast(Any, template.unwrapped)
        self._template = template
        self._walks = not env_id.startswith("HalfCheetah")
        self._v5 = env_id.endswith("v5")
        self._limit = int(template.get_wrapper_attr("_max_episode_steps"))  # TimeLimit's
        self._model = self._constants.model
        self._frame_skip = self._constants.frame_skip
        self._data = [mujoco.MjData(self._model) for _ in range(num_envs)]
        # Views into MuJoCo's memory, looked up once: a step then costs no attribute access per lane.
        self._views = [(data, data.ctrl, data.qpos, data.qvel) for data in self._data]
        self._qpos = np.zeros((num_envs, self._model.nq))
        self._qvel = np.zeros((num_envs, self._model.nv))
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._infos = {"x_position": np.zeros(num_envs)}

    def _restart(self, lanes: np.ndarray, seeds: Sequence[int | None], options: dict[str, Any] | None) -> None:
        env, model = self._constants, self._model
        noise = env._reset_noise_scale
        for lane, seed in zip(lanes.tolist(), seeds, strict=True):
            rng = self._generator(lane, seed)
            data, _, qpos, qvel = self._views[lane]
            mujoco.mj_resetData(model, data)
            qpos[:] = env.init_qpos + rng.uniform(low=-noise, high=noise, size=model.nq)
            if self._walks:
                qvel[:] = env.init_qvel + rng.uniform(low=-noise, high=noise, size=model.nv)
            else:
                qvel[:] = env.init_qvel + noise * rng.standard_normal(model.nv)
            mujoco.mj_forward(model, data)
            self._qpos[lane], self._qvel[lane] = qpos, qvel
        self._steps[lanes] = 0
        self._infos["x_position"][lanes] = self._qpos[lanes, 0]
        self._observe(lanes)

    def _advance(self, lanes: np.ndarray, actions: np.ndarray) -> np.ndarray:
        env = self._constants
        before = self._qpos[lanes, 0]
        self._physics(lanes, actions)
        self._steps[lanes] += 1
        self._truncated[lanes] = self._steps[lanes] >= self._limit
        self._observe(lanes)
        velocity = (self._qpos[lanes, 0] - before) / env.dt
        forward = env._forward_reward_weight * velocity
        # In the actions' own precision, as gymnasium computes it: float32 actions give a float32 cost.
        cost = env._ctrl_cost_weight * np.sum(np.square(actions), axis=1)
        infos = {"x_position": self._qpos[lanes, 0], "x_velocity": velocity, "reward_ctrl": -cost}
        if self._walks:
            healthy = self._healthy(lanes)
            self._terminated[lanes] = ~healthy & env._terminate_when_unhealthy
            survive = (healthy | (not self._v5 and env._terminate_when_unhealthy)) * env._healthy_reward
            reward = forward + survive - cost
            infos["reward_survive"] = survive
            infos["z_distance_from_origin"] = self._qpos[lanes, 1] - env.init_qpos[1]
        else:
            reward = forward - cost
        infos["reward_forward" if self._walks or self._v5 else "reward_run"] = forward
        for key, value in infos.items():
            if key not in self._infos:
                self._infos[key] = np.zeros(self.num_envs)
            self._infos[key][lanes] = value
        return reward

    def _physics(self, lanes: np.ndarray, actions: np.ndarray) -> None:
        model, skip, views, step = self._model, self._frame_skip, self._views, mujoco.mj_step
        all_qpos, all_qvel = self._qpos, self._qvel
        for row, lane in enumerate(lanes.tolist()):
            data, ctrl, qpos, qvel = views[lane]
            ctrl[:] = actions[row]
            step(model, data, nstep=skip)
            all_qpos[lane] = qpos
            all_qvel[lane] = qvel

    def _observe(self, lanes: np.ndarray) -> None:
        position = self._qpos[lanes]
        if self._constants._exclude_current_positions_from_observation:
            position = position[:, 1:]
        velocity = self._qvel[lanes]
        if self._walks:
            velocity = np.clip(velocity, -10, 10)
        self._obs[lanes] = np.concatenate((position, velocity), axis=1)

    def _healthy(self, lanes: np.ndarray) -> np.ndarray:
        env, qpos, qvel = self._constants, self._qpos[lanes], self._qvel[lanes]
        (min_z, max_z), (min_angle, max_angle) = env._healthy_z_range, env._healthy_angle_range
        z, angle = qpos[:, 1], qpos[:, 2]
        healthy = (min_z < z) & (z < max_z) & (min_angle < angle) & (angle < max_angle)
        if hasattr(env, "_healthy_state_range"):  # Hopper alone
            low, high = env._healthy_state_range
            state = np.concatenate((qpos[:, 2:], qvel), axis=1)
            healthy &= ((low < state) & (state < high)).all(axis=1)
        return healthy

    def render(self) -> tuple[Any, ...]:
        """One frame per lane, drawn through the one gymnasium environment (`render_mode="rgb_array"`)."""
        frames = []
        for _, _, qpos, qvel in self._views:
            self._constants.set_state(qpos, qvel)
            frames.append(self._template.render())
        return tuple(frames)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the gymnasium environment that gave the model."""
        self._template.close()
