"""Reports on episodes with known numbers, and the evaluator on a real small environment."""

import json
import math

import numpy as np
import pytest
import torch

from cdsa_lightning.core.policy import FunctionPolicy, Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Evaluator, Report
from cdsa_lightning.rollout import Episodes
from cdsa_lightning.tasks import Task, get_task

SCALED = Task("scaled", "Hopper-v5", score_min=0.0, score_max=200.0, episodes=4)
RAW = Task("raw", "Hopper-v5", episodes=4)


def episodes(returns, **info):
    returns = np.asarray(returns, dtype=np.float64)
    flat = np.full_like(returns, 0.0)
    return Episodes(
        returns=returns,
        lengths=np.full(returns.shape, 7),
        terminated=np.tile([True, False], (returns.shape[0], returns.shape[1] // 2)),
        shift=flat + 0.25,
        clip_fraction=flat + 0.5,
        info={key: np.asarray(value, dtype=np.float64) for key, value in info.items()},
        traces=[],
    )


def test_statistics_are_those_of_the_pooled_episodes():
    report = Report(SCALED, {"iql": episodes([[10, 20, 30, 40], [50, 60, 70, 80]])})
    values = report.statistics["iql"]
    assert values["return"] == 45
    assert values["normalized_score"] == 22.5
    assert values["standard_error"] == pytest.approx(20.0)  # means 25 and 65: sd 28.28 / sqrt 2
    assert values["var_25"] == pytest.approx(np.percentile([10, 20, 30, 40, 50, 60, 70, 80], 25))
    assert values["cvar_25"] == 15
    assert values["cvar_5"] == 10
    assert (values["episode_length"], values["shift"], values["clip_fraction"]) == (7, 0.25, 0.5)
    assert [seed["normalized_score"] for seed in report.per_seed["iql"]] == [12.5, 32.5]


def test_statistics_hold_only_what_the_environment_tells():
    plain = Report(RAW, {"iql": episodes([[1, 2]])}).statistics["iql"]
    assert not {"violation_rate", "cost", "success_rate", "forward_distance"} & set(plain)
    assert plain["normalized_score"] == plain["return"]
    runner = Report(RAW, {"iql": episodes([[1, 2]], x_position=[[3.0, 5.0]])}).statistics["iql"]
    assert runner["forward_distance"] == 4
    assert "success_rate" not in runner  # an early end of Hopper is a fall


def test_risky_worlds_count_episodes_with_a_violation_and_reach_the_goal_where_they_end():
    risky = episodes([[1, 2, 3, 4]], in_risk_region=[[0, 9, 0, 0]], cost=[[0, 2, 0, 0]])
    values = Report(RAW, {"iql": risky}).statistics["iql"]
    assert (values["violation_rate"], values["cost"], values["success_rate"]) == (0.25, 0.5, 0.5)


def test_every_seed_is_told_apart():
    risky = episodes([[1, 2], [3, 5]], in_risk_region=[[0, 9], [0, 0]])
    first, second = Report(RAW, {"iql": risky}).per_seed["iql"]
    assert (first["violation_rate"], second["violation_rate"]) == (0.5, 0)
    assert (first["return"], second["return"]) == (1.5, 4)
    assert Report(RAW, {"iql": risky}).to_json()["arms"]["iql"]["per_seed"] == [first, second]


def test_success_of_the_environment_counts_where_there_is_one():
    values = Report(RAW, {"iql": episodes([[1, 2, 3, 4]], success=[[1, 1, 1, 0]])}).statistics["iql"]
    assert values["success_rate"] == 0.75


def test_corrected_arms_are_compared_with_their_own_baseline():
    generator = np.random.default_rng(0)
    arms = {
        "iql+noise(0.3)": episodes(generator.normal(100, 5, (2, 20))),
        "cdsa(iql+noise(0.3))": episodes(generator.normal(150, 5, (5, 20))),
        "cdsa(iql+noise(0.3)) without a1": episodes(generator.normal(50, 5, (5, 20))),
        "cdsa(por)": episodes(generator.normal(0, 1, (5, 20))),
    }
    first, second = Report(SCALED, arms).differences
    assert (first.arm, first.baseline) == ("cdsa(iql+noise(0.3))", "iql+noise(0.3)")
    assert (first.verdict, second.verdict) == ("improved", "harmed")
    assert first.mean.low < 50 < first.mean.high
    assert first.cvar_10.low < 50 < first.cvar_10.high


def test_equal_arms_are_no_evidence():
    same = np.random.default_rng(1).normal(0, 1, (5, 20))
    report = Report(RAW, {"iql": episodes(same), "cdsa(iql)": episodes(same + 0.01)})
    assert report.differences[0].verdict == "no evidence"
    assert "no evidence that correction changed the return of iql" in report.sentence()


def test_sentence_says_verdict_numbers_and_risk():
    baseline = episodes([[100.0, 101.0] * 10], in_risk_region=[[1, 0] * 10])
    corrected = episodes([[140.0, 141.0] * 10], in_risk_region=[[0, 0] * 10])
    text = Report(SCALED, {"iql": baseline, "cdsa(iql)": corrected}).sentence()
    assert text.startswith("On scaled, correction improved iql: mean return 100.5 -> 140.5, difference +40.0 (95 % int")
    assert "normalised score 50.2 -> 70.2" in text
    assert text.endswith("episodes in a risk region 50.0% -> 0.0%.")


def test_sentence_speaks_of_the_whole_correction_wherever_it_stands():
    arms = {"iql": [[0.0, 1.0] * 10], "cdsa(iql) without a1": [[0.0, 1.0] * 10], "cdsa(iql)": [[9.0, 8.0] * 10]}
    report = Report(RAW, {name: episodes(values) for name, values in arms.items()})
    assert "correction improved iql: mean return 0.5 -> 8.5" in report.sentence()


def test_sentence_without_a_corrected_arm_says_what_the_arms_returned():
    assert Report(RAW, {"iql": episodes([[1, 2]])}).sentence() == "On raw, iql returned 1.5."


def test_one_episode_each_proves_nothing_and_still_makes_a_report():
    report = Report(RAW, {"iql": episodes([[1.0]]), "cdsa(iql)": episodes([[500.0]])})
    assert report.differences[0].verdict == "no evidence"
    assert "one episode says nothing" in report.sentence()
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert plain["differences"][0]["mean_return"] == {"estimate": 499.0, "low": None, "high": None}
    assert plain["arms"]["iql"]["standard_error"] is None
    assert all(math.isfinite(value) for value in report.scalars().values())


def test_scalars_are_paths_for_loggers():
    scalars = Report(SCALED, {"por": episodes([[10, 30]]), "cdsa(por)": episodes([[20, 40]])}).scalars()
    assert scalars["eval/cdsa(por)/var_10"] == 22
    assert scalars["eval/por/normalized_score"] == 10
    assert scalars["eval/cdsa(por)/difference"] == 10
    assert scalars["eval/cdsa(por)/difference_low"] < 10 < scalars["eval/cdsa(por)/difference_high"]
    assert scalars["eval/cdsa(por)/cvar_10_difference"] == 10


def test_report_refuses_broken_returns_and_says_where():
    with pytest.raises(InputError, match="1 returns of 'iql' are NaN or infinite, first in seed 1, episode 0"):
        Report(RAW, {"iql": episodes([[1, 2], [math.nan, 3]])})
    with pytest.raises(InputError, match="no policy to evaluate"):
        Report(RAW, {})
    with pytest.raises(InputError, match="'iql' has no episodes"):
        Report(RAW, {"iql": episodes(np.zeros((2, 0)))})


def test_evaluator_needs_an_episode():
    with pytest.raises(InputError, match="episodes=0"):
        Evaluator(RAW, episodes=0)


def test_evaluator_rolls_every_policy_out_from_the_same_starts():
    task = get_task("risky-pointmass")
    straight = FunctionPolicy(lambda obs: (obs[:, 2:] - obs[:, :2]).clamp(-0.1, 0.1), task.low, task.high)
    report = Evaluator(task, episodes=6, record=2, env_kwargs={"start": "corner"}).run({"a": straight, "b": straight})
    np.testing.assert_array_equal(report.arms["a"].returns, report.arms["b"].returns)
    assert report.arms["a"].returns.shape == (1, 6)
    assert report.statistics["a"]["violation_rate"] == 1
    assert report.statistics["a"]["success_rate"] == 1
    assert len(report.arms["a"].traces) == 2
    assert report.to_json()["env_kwargs"] == {"start": "corner"}


def test_evaluator_takes_the_episodes_of_the_task_by_default():
    assert Evaluator(RAW).episodes == 4


def test_evaluator_names_the_arm_whose_policy_returns_nan():
    class Broken(Policy):
        def forward(self, obs):
            return torch.full((obs.shape[0], 2), math.nan)

    task = get_task("risky-pointmass")
    with pytest.raises(InputError, match="NaN"):
        Evaluator(task, episodes=1).run({"broken": Broken(task.low, task.high)})
