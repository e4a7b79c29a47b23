"""The search on a world whose best coefficients are known: one step that pays -(a - a*)^2."""

import math
import sys

import gymnasium as gym
import numpy as np
import optuna
import pytest
import torch

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.core.policy import FunctionPolicy
from cdsa_lightning.envs import Lanes
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Evaluator
from cdsa_lightning.tuning import (
    OBJECTIVES,
    Outcome,
    Search,
    Space,
    Trial,
    best_of,
    candidates,
    check_search,
    episodes_with,
    judge,
)
from known_networks import ACTION, OBS, gaussian_corrector

RETURN, TAIL, VIOLATION = (OBJECTIVES[name] for name in ("return", "cvar_10", "violation"))
BEST = 0.5


class Target(gym.Env):
    """One step; pays minus the squared distance of the action to (BEST, BEST)."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (ACTION,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=OBS).astype(np.float32), {}

    def step(self, action):
        return np.zeros(OBS, np.float32), -float(((action - BEST) ** 2).sum()), True, False, {}


class TargetTask:
    """Counts the rollouts."""

    name, runs = "target", 0

    def make_env(self, num_envs, **env_kwargs):
        self.runs += 1
        return Lanes([Target] * num_envs)


@pytest.fixture
def task():
    return TargetTask()


@pytest.fixture(scope="module")
def corrected():
    """The baseline acts 0 and the data 1, without noise: one denoising step of weight k1 ends at k1."""
    corrector = gaussian_corrector(1.0, 0.0, (0.4,), bound=2.0, predict="noise")
    return CorrectedPolicy(FunctionPolicy(lambda obs: obs[:, :ACTION] * 0, [-2.0] * ACTION, [2.0] * ACTION), corrector)


def searching(tmp_path, corrected, count=40, name="trials.db", objective=RETURN, **subject):
    found = candidates(corrected.corrector, Coefficients.none())
    space = Space.of(corrected.corrector)
    return Search(str(tmp_path / name), {"task": "target", **subject}, found, space, objective, count, seed=3)


def measuring(task, corrected, episodes=3, seed=0):
    evaluator = Evaluator(task, episodes, seed)
    return lambda coefficients: episodes_with(evaluator, corrected, coefficients)


def shape(trials):
    return [(trial.name, trial.coefficients, trial.value) for trial in trials]


def test_the_known_optimum_is_found_and_chosen(tmp_path, task, corrected):
    trials = searching(tmp_path, corrected, 40).run(measuring(task, corrected))
    assert [trial.name for trial in trials[:3]] == ["none", "ann3", "trial 3"]
    assert trials[0].value == pytest.approx(-ACTION * BEST**2)  # acts 0
    assert trials[1].value == pytest.approx(-ACTION * (1 - BEST) ** 2)  # acts 1
    values = [trial.value for trial in trials]
    assert np.median(values[-10:]) > np.median(values[2:10]) / 5  # the first are random, the last have learnt
    best = best_of(trials, RETURN)
    assert best.value > -0.01
    action = CorrectedPolicy(corrected.policy, corrected.corrector, best.coefficients)(torch.zeros(1, OBS))
    assert torch.allclose(action, torch.full((1, ACTION), BEST), atol=0.08)
    other = measuring(task, corrected, 6, seed=9)
    said = judge(trials, RETURN, {"none": other(Coefficients.none()), best.name: other(best.coefficients)})
    assert said.name == best.name
    assert said.gain.estimate == pytest.approx(best.value - trials[0].value)
    assert "40 trials" in said.reason and "6 fresh episodes" in said.reason


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path, task, corrected):
    whole = shape(searching(tmp_path, corrected, 20, "whole.db").run(measuring(task, corrected)))

    class Killed(BaseException):
        pass

    def killed_after(calls):
        honest, left = measuring(task, corrected), [calls]

        def measure(coefficients):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return honest(coefficients)

        return measure

    for calls in (1, 4, 8):  # in a fixed trial, among the random ones, where the sampler has learnt
        with pytest.raises(Killed):
            searching(tmp_path, corrected, 20, "parts.db").run(killed_after(calls))
    parts = searching(tmp_path, corrected, 20, "parts.db")
    assert len(parts.finished()) >= 10  # what was finished is there
    assert shape(parts.run(measuring(task, corrected))) == whole
    assert {trial.state.name for trial in parts.study.trials} == {"COMPLETE"}


def test_finished_trials_are_not_run_again_and_more_can_be_asked_for(tmp_path, task, corrected):
    first = searching(tmp_path, corrected, 6).run(measuring(task, corrected))
    runs, told = task.runs, []
    again = searching(tmp_path, corrected, 6).run(measuring(task, corrected))
    assert (shape(again), task.runs) == (shape(first), runs)
    more = searching(tmp_path, corrected, 8).run(measuring(task, corrected), lambda *one: told.append(one))
    assert shape(more)[:6] == shape(first)
    assert [number for number, _ in told] == [7, 8]
    assert np.array_equal(more[0].outcome.returns, np.full((1, 3), -ACTION * BEST**2))


def test_what_was_measured_once_is_not_measured_again(tmp_path, task, corrected):
    found, space = {"none": Coefficients.none(), "again": Coefficients.none()}, Space.of(corrected.corrector)
    search = Search(str(tmp_path / "trials.db"), {}, found, space, RETURN, 3)
    assert [trial.name for trial in search.run(measuring(task, corrected))] == ["none", "again", "trial 3"]
    assert task.runs == 2


@pytest.mark.parametrize("change", [{"task": "other"}, {"objective": TAIL}, {"baseline": "iql"}])
def test_a_storage_of_another_search_is_refused(tmp_path, task, corrected, change):
    searching(tmp_path, corrected, 3).run(measuring(task, corrected))
    with pytest.raises(
        InputError, match=f"holds the trials of another search .*{next(iter(change))} .* there, .* here"
    ):
        searching(tmp_path, corrected, 3, **change)


def test_a_study_of_another_origin_is_refused(tmp_path, corrected):
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'trials.db'}", study_name="cdsa tune")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(InputError, match='objective null there, "return" here'):
        searching(tmp_path, corrected)


@pytest.mark.parametrize(
    "storage, said",
    [
        ("nonsense://x", "nonsense"),
        ("postgresql://me:secret@host:port/x", "postgresql://me:.*@host:port/x: it cannot be read as a URL"),
        ("mysql://me:secret@localhost:1/x", "No module named 'MySQLdb'"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("a?b.db", "'\\?' cannot stand in a file's name"),
        ("text.txt", "file is not a database"),
        ("text.txt/trials.db", "(Not a directory|File exists)"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_without_its_password(tmp_path, monkeypatch, corrected, storage, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("no data base " * 100)
    with pytest.raises(InputError, match=said) as error:
        Search(storage, {}, {}, Space.of(corrected.corrector), RETURN, 3)
    assert "--storage takes a file" in str(error.value)
    assert "secret" not in str(error.value)


def test_too_few_trials_an_unknown_objective_and_no_optuna_are_refused(monkeypatch):
    with pytest.raises(InputError, match="fixed candidates \\(none, ann3\\): 2 leave none .* --trials 3 or more"):
        check_search(2, "return", ["none", "ann3"])
    with pytest.raises(InputError, match="Unknown objective 'returns'. Did you mean 'return'"):
        check_search(3, "returns", ["none", "ann3"])
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match="pip install 'cdsa-lightning\\[tune\\]'"):
        check_search(3, "return", ["none", "ann3"])


def trial(name, returns, violated=None, objective=RETURN, k1=0.0):
    outcome = Outcome(np.array(returns, dtype=float), None if violated is None else np.array(violated, dtype=bool))
    return Trial(name, Coefficients(k1=k1), outcome, objective.value(outcome))


def test_luck_is_not_chosen():
    none, lucky = trial("none", [[0.0, 2.0]]), trial("trial 3", [[5.0, 9.0]], k1=1.0)
    noise = np.random.default_rng(0).normal(0, 1, (1, 50))
    said = judge([none, lucky], RETURN, {"none": Outcome(noise), "trial 3": Outcome(noise[:, ::-1] + 0.1)})
    assert said.gain.low < 0 < said.gain.estimate
    assert (said.name, said.verdict) == ("none", "no evidence")
    assert "promised a gain of 6 " in said.reason and "does not show that it is better" in said.reason


def test_a_better_tail_that_costs_return_is_not_chosen():
    rng = np.random.default_rng(1)
    base = np.where(np.arange(200) % 5 == 0, -10.0, 10.0) + rng.normal(0, 0.1, 200)
    safe = rng.normal(0, 0.1, 200)
    none, best = trial("none", [base], objective=TAIL), trial("trial 3", [safe], objective=TAIL, k1=1.0)
    said = judge([none, best], TAIL, {"none": none.outcome, "trial 3": best.outcome})
    assert (said.name, said.verdict) == ("none", "harmed")
    assert said.gain.low > 0 and "the mean return is harmed" in said.reason


def test_fewer_violations_are_better_and_the_return_decides_among_equals():
    risky, safe = [[1] * 30 + [0] * 10], [[0] * 40]
    none = trial("none", [[1.0] * 40], risky, VIOLATION)
    poor, good = (trial(name, [[value] * 40], safe, VIOLATION, 1.0) for name, value in (("poor", 0.5), ("good", 1.0)))
    assert best_of([none, poor, good], VIOLATION) is good
    said = judge([none, poor, good], VIOLATION, {"none": none.outcome, "good": good.outcome})
    assert said.name == "good"
    assert said.gain.estimate == 0.75
    with pytest.raises(InputError, match="no risk regions to violate"):
        trial("none", [[1.0]], objective=VIOLATION)


def test_no_correction_stays_where_nothing_is_better():
    none, same = trial("none", [[1.0, 2.0]]), trial("trial 3", [[1.0, 2.0]], k1=1.0)
    said = judge([none, same], RETURN, {"none": none.outcome})
    assert (said.name, said.gain, said.verdict) == ("none", None, None)
    assert said.reason == "None of 2 trials was better than no correction (mean return 1.5): no correction."


def test_one_episode_is_no_evidence():
    none, best = trial("none", [[0.0]]), trial("trial 3", [[9.0]], k1=1.0)
    said = judge([none, best], RETURN, {"none": none.outcome, "trial 3": best.outcome})
    assert said.name == "none" and math.isinf(said.gain.low)
