r"""The rules of Risky transportation: cross a map with a mountain, a river and ice, along or against the shortest way.

Positions p in [0, 10]^2; the action, shortened to length 1 where it is longer, times 0.25 is the displacement. With
route(p) the straight way that is left before a step,

    reward = -route(p) - risk_penalty * [p in a region and u < risk_prob] + 10 * [the step ends the task],   u ~ U(0, 1)

Three tasks share the map. `path`: go to the target. `goods`: pass the goods, then go to the target. `airport`: go to
the target; a step taken at the airport lands far ahead, once. The route is straight to the target, past the goods where
they are missing, or past the airport where that is shorter. Within .3 of the target the episode terminates, with the
goods where they are asked for; after 200 steps it is truncated. A policy observes x, y, which of the three tasks it is,
and whether goods and flight are behind it. A corrector sees x, y alone and so serves all three.

An episode's luck is drawn at reset from the copy's own generator, first the start, then one u per step.
Source: section 5.3 and Figure 5 of the CDSA paper (arXiv 2406.07541), which leaves the numbers open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cdsa_lightning.envs.maps import Capsule, Disc, Ellipse, Place, WorldMap
from cdsa_lightning.errors import InputError, unknown_name

__all__ = ["AT_START", "BONUS", "NAMES", "REACH", "REGIONS", "SPEED", "TASKS", "Rules", "Travellers"]

SPEED = 0.25
BONUS = 10.0
REACH = 0.3  # how near the target is near enough
DEPOT = (0.5, 1.5)  # the square in which deliveries start
GOODS = Place("goods", (2.5, 7.0), 0.3)
AIRPORT = Place("airport", (1.8, 6.5), 0.4)
LANDING = Place("landing", (7.2, 6.4), 0.1)
REGIONS = (
    Disc("mountain", (2.2, 3.3), 1.2),
    Capsule("river", (5.1, 0.0), (5.1, 4.6), 0.6),
    Ellipse("ice", (7.4, 8.0), (1.3, 0.8)),
)
_GROUND = WorldMap((0, 0), (10, 10), REGIONS, (), SPEED)
TASKS: dict[str, tuple[Place, ...]] = {"path": (), "goods": (GOODS,), "airport": (AIRPORT, LANDING)}
"""The places of each task, apart from its target."""
STARTS = ("depot", "uniform")
NAMES = np.array([*(region.name for region in REGIONS), ""])  # the last for no region, which is number -1
AT_START = {"cost": 0.0, "in_risk_region": False, "risk_region": "", "success": False}  # no start is in a region


@dataclass
class Travellers:
    """n of them: position [n, 2], has_goods [n], has_flown [n]."""

    position: np.ndarray
    has_goods: np.ndarray
    has_flown: np.ndarray

    @classmethod
    def at(cls, position: np.ndarray) -> Travellers:
        """Travellers who have done nothing yet, at positions [n, 2]."""
        nothing = np.zeros(len(position), dtype=bool)
        return cls(position, nothing | _within(position, GOODS), nothing)


@dataclass(frozen=True)
class Rules:
    """One task on the map.

    Args:
        task: path, goods or airport.
        risk_prob: Probability of an accident per step inside a region.
        risk_penalty: What an accident costs.
        start: ``depot`` ([.5, 1.5]^2), ``uniform`` (anywhere outside the regions), or a point (x, y).
        target: Where to, a point (x, y).
        max_episode_steps: Steps after which an episode is truncated.

    Raises:
        InputError: an unknown task or start, a number out of range, or a start or target in a region or off the map.
    """

    task: str = "path"
    risk_prob: float = 0.01
    risk_penalty: float = 50.0
    start: str | Sequence[float] = "depot"
    target: Sequence[float] = (9.0, 9.0)
    max_episode_steps: int = 200

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise unknown_name("transportation task", str(self.task), TASKS)
        if not 0 <= self.risk_prob <= 1:
            raise InputError(f"risk_prob is a probability between 0 and 1, got {self.risk_prob}.")
        if self.max_episode_steps < 1:
            raise InputError(f"max_episode_steps must be at least 1, got {self.max_episode_steps}.")
        _GROUND.check_free("The target", self.target)
        self.check_start(self.start)

    @property
    def map(self) -> WorldMap:
        """What a picture of this task shows."""
        x, y = self.target
        return replace(_GROUND, places=(Place("goal", (x, y), REACH), *TASKS[self.task]))

    def check_start(self, start: str | Sequence[float]) -> None:
        """See that an episode can begin at `start`.

        Raises:
            InputError: it cannot.
        """
        if not isinstance(start, str):
            _GROUND.check_free("The start", start)
        elif start not in STARTS:
            raise unknown_name("start", start, STARTS, "Or give a point, for instance [1.0, 6.0].")

    def draw(self, rng: np.random.Generator, start: str | Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """The start [2] and the luck [max_episode_steps] of one episode, in this order."""
        self.check_start(start)
        if not isinstance(start, str):
            position = np.array(start, dtype=np.float64)
        elif start == "depot":
            position = rng.uniform(*DEPOT, size=2)
        else:
            position = rng.uniform(self.map.low, self.map.high)
            while self.map.region_of(position) >= 0:
                position = rng.uniform(self.map.low, self.map.high)
        return position, rng.uniform(size=self.max_episode_steps)

    def route(self, now: Travellers) -> np.ndarray:
        """The length of the straight way that is left, [n]."""
        target, position = np.asarray(self.target), now.position
        direct = _length(target - position)
        if self.task == "goods":
            goods = np.asarray(GOODS.centre)
            return np.where(now.has_goods, direct, _length(goods - position) + _length(target - goods))
        if self.task == "airport":
            flight = _length(np.asarray(AIRPORT.centre) - position) + _length(target - np.asarray(LANDING.centre))
            return np.where(now.has_flown, direct, np.minimum(direct, flight))
        return direct

    def observe(self, now: Travellers) -> np.ndarray:
        """What a policy sees, float32 [n, 7]: x, y, the task as one of three, has_goods, has_flown."""
        flags = np.tile([float(name == self.task) for name in TASKS], (len(now.position), 1))
        done = np.stack([now.has_goods & (self.task == "goods"), now.has_flown], axis=1)
        return np.concatenate((now.position, flags, done), axis=1).astype(np.float32)

    def step(
        self, now: Travellers, action: np.ndarray, luck: np.ndarray
    ) -> tuple[Travellers, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One step of n travellers; reward and risk look at where it begins, the end at where it leads.

        Args:
            now: Before the step.
            action: Direction and speed, [n, 2]; shortened to length 1.
            luck: Uniform random numbers of this step, [n].

        Returns:
            The travellers after it, rewards [n], terminated [n] and infos: ``cost`` [n] (1 for an accident),
            ``in_risk_region`` [n], ``risk_region`` [n] (its name, empty outside), ``success`` [n].

        Raises:
            InputError: an action that is NaN or infinite.
        """
        if not np.isfinite(action).all():
            raise InputError("An action is NaN or infinite; actions are directions in [-1, 1]^2.")
        region = self.map.region_of(now.position)
        accident = (region >= 0) & (luck < self.risk_prob)
        walked = now.position + SPEED * action / np.maximum(_length(action), 1.0)[:, None]
        flies = _within(now.position, AIRPORT) & ~now.has_flown & (self.task == "airport")
        position = np.clip(np.where(flies[:, None], LANDING.centre, walked), self.map.low, self.map.high)
        after = Travellers(position, now.has_goods | _within(position, GOODS), now.has_flown | flies)
        arrived = _within(position, self.map.places[0])
        if self.task == "goods":
            arrived &= after.has_goods
        reward = -self.route(now) - self.risk_penalty * accident + BONUS * arrived
        infos = {
            "cost": accident.astype(np.float64),
            "in_risk_region": region >= 0,
            "risk_region": NAMES[region],
            "success": arrived,
        }
        return after, reward, arrived, infos


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=-1)


def _within(position: np.ndarray, place: Place) -> np.ndarray:
    return _length(position - place.centre) < place.radius
