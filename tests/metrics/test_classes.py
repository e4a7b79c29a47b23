"""The torchmetrics agree with the functions, however the episodes arrive."""

import math

import pytest
import torch

from cdsa_lightning import metrics
from cdsa_lightning.errors import InputError
from cdsa_lightning.metrics.classes import ConditionalValueAtRisk, NormalizedScore, ValueAtRisk, ViolationRate
from cdsa_lightning.metrics.functional import (
    conditional_value_at_risk,
    normalized_score,
    value_at_risk,
    violation_rate,
)

RETURNS = torch.randn(60, generator=torch.Generator().manual_seed(0)) * 100
CASES = [
    (lambda: ValueAtRisk(0.25), lambda r: value_at_risk(r, 0.25)),
    (lambda: ConditionalValueAtRisk(0.07), lambda r: conditional_value_at_risk(r, 0.07)),
    (lambda: NormalizedScore(-20.0, 300.0), lambda r: normalized_score(r.mean(), -20.0, 300.0)),
    (ViolationRate, violation_rate),
]
NAMES = ["var", "cvar", "score", "violation"]


@pytest.mark.parametrize(("make", "function"), CASES, ids=NAMES)
def test_updates_in_batches_equal_one_call(make, function):
    metric = make()
    for part in (RETURNS[:7], RETURNS[7:8], RETURNS[8:].reshape(4, 13)):
        metric.update(part)
    torch.testing.assert_close(metric.compute(), function(RETURNS.double()))


@pytest.mark.parametrize(("make", "function"), CASES, ids=NAMES)
def test_reset_forgets(make, function):
    metric = make()
    metric.update(RETURNS[:30])
    metric.reset()
    metric.update(RETURNS[30:])
    torch.testing.assert_close(metric.compute(), function(RETURNS[30:].double()))


@pytest.mark.parametrize(("make", "function"), CASES, ids=NAMES)
def test_states_merge_as_two_processes_would_merge_them(make, function):
    """torchmetrics gathers every process's states and reduces them with `dist_reduce_fx`."""
    first, second = make(), make()
    first.update(RETURNS[:20])
    second.update(RETURNS[20:])
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), function(RETURNS.double()))


def test_metrics_refuse_impossible_settings():
    with pytest.raises(InputError, match="q must lie"):
        ConditionalValueAtRisk(0)
    with pytest.raises(InputError, match="score_max"):
        NormalizedScore(1.0, 1.0)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_means_before_the_first_episode_are_nan():
    assert math.isnan(NormalizedScore(0, 1).compute())
    assert math.isnan(ViolationRate().compute())


def test_the_package_offers_the_classes_by_name():
    assert metrics.ValueAtRisk is ValueAtRisk
    with pytest.raises(AttributeError, match="ValueAtRsik"):
        metrics.ValueAtRsik  # noqa: B018
