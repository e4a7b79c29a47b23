"""An evaluation for charts says what the report says, and refuses files that do not belong together."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from cdsa_lightning.dashboard.evaluations import read_evaluation
from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.tasks import get_task
from dashboard_files import COEFFICIENTS, RISKY, SCALED, ablated, leave_evaluation, report_of
from drawn import episodes


def test_percentiles_and_tail_of_evenly_spread_returns(tmp_path):
    returns = np.random.default_rng(0).permutation(np.arange(101.0))[None]
    one = read_evaluation(leave_evaluation(tmp_path, Report(get_task(RISKY), {"mine": episodes(returns)})))
    (arm,) = one.arms
    assert arm.curve == list(range(101)) and arm.curves == [arm.curve]
    assert arm.statistics["score"] == 50
    # The worst 10.1 of them: 0 to 9, and a tenth of 10.
    assert arm.statistics["cvar_10"] == pytest.approx((45 + 0.1 * 10) / 10.1, rel=1e-4)
    assert arm.statistics["low"] < 50 < arm.statistics["high"]
    assert (one.scaled, one.verdict, one.coefficients, arm.part) == (False, "", None, "base")


def test_scores_are_normalised_where_the_task_has_a_range(tmp_path):
    report = report_of(SCALED, {"iql": 1500.0, "cdsa(iql)": 2000.0})
    one = read_evaluation(leave_evaluation(tmp_path, report))
    assert one.scaled
    for arm in one.arms:
        whole, seeds = report.statistics[arm.name], report.per_seed[arm.name]
        assert arm.statistics["score"] == pytest.approx(whole["normalized_score"], rel=1e-4)
        assert [seed["score"] for seed in arm.seeds] == pytest.approx([s["normalized_score"] for s in seeds], rel=1e-4)
        tail = float(report.task.normalized_score(np.array(whole["cvar_10"])))
        assert arm.statistics["cvar_10"] == pytest.approx(tail, rel=1e-3)


def test_arms_are_told_by_their_names_and_seeds_by_the_corrector(tmp_path):
    header = {"preset": "robust", "seeds": [5, 6]}
    folder = leave_evaluation(
        tmp_path, report_of(RISKY, ablated("iql+noise(0.3)")), coefficients=COEFFICIENTS, corrector_header=header
    )
    one = read_evaluation(folder)
    assert [arm.part for arm in one.arms] == ["base", "cdsa", "without_a1", "without_a2"]
    assert (one.task, one.baseline, one.preset, one.seeds) == (RISKY, "iql+noise(0.3)", "robust", [5, 6])
    assert (one.coefficients, one.verdict) == (COEFFICIENTS, "improved")


def test_episodes_in_risk_regions_and_costs_are_kept(tmp_path):
    inside = np.array([[0.0, 1.0, 3.0, 0.0], [0.0, 0.0, 0.0, 2.0]])
    report = Report(get_task(RISKY), {"mine": episodes(np.zeros((2, 4)), in_risk_region=inside, cost=inside / 10)})
    (arm,) = read_evaluation(leave_evaluation(tmp_path, report)).arms
    assert arm.statistics["violation_rate"] == 3 / 8 and arm.statistics["cost"] == pytest.approx(0.075)
    assert [seed["violation_rate"] for seed in arm.seeds] == [2 / 4, 1 / 4]


def test_one_episode_has_no_interval(tmp_path):
    report = Report(get_task(RISKY), {"mine": episodes([[3.0]])})
    (arm,) = read_evaluation(leave_evaluation(tmp_path, report)).arms
    assert (arm.statistics["low"], arm.statistics["high"]) == (None, None)


def damage_json(folder):
    (folder / "report.json").write_text('{"task": "risky-')


def another_return(folder):
    said = json.loads((folder / "report.json").read_text())
    said["arms"]["iql"]["return"] += 1
    (folder / "report.json").write_text(json.dumps(said))


def an_arm_less(folder):
    said = json.loads((folder / "report.json").read_text())
    del said["arms"]["iql"]
    (folder / "report.json").write_text(json.dumps(said))


def no_column(folder):
    table = pq.read_table(folder / "episodes.parquet").drop_columns(["normalized"])
    pq.write_table(table, folder / "episodes.parquet")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_json, "damaged report"),
        (another_return, "the returns of 'iql' in episodes.parquet are not those of report.json"),
        (an_arm_less, "holds arms that report.json does not know"),
        (no_column, "there is no"),
        (lambda folder: (folder / "report.json").write_text("[]"), "damaged report"),
        (lambda folder: (folder / "report.json").write_text('{"arms": {}, "task": "a"}'), "names no arms"),
        (lambda folder: (folder / "episodes.parquet").write_bytes(b"PAR1"), "damaged report"),
        (lambda folder: (folder / "episodes.parquet").unlink(), r"lacks episodes\.parquet"),
    ],
)
def test_damage_is_told_with_its_place(tmp_path, damage, said):
    folder = leave_evaluation(tmp_path, report_of(RISKY, {"iql": 1.0, "cdsa(iql)": 2.0}))
    damage(folder)
    with pytest.raises(InputError, match=said) as caught:
        read_evaluation(folder)
    assert str(folder) in str(caught.value)
