"""The alarm: its rate in closed form, by simulation, and what it does in a burst."""

import numpy as np
import pytest
from scipy.stats import binom

from cdsa_lightning.alarm import Alarm, Window
from cdsa_lightning.errors import InputError


@pytest.mark.parametrize("window, alpha, asked", [(100, 0.05, 1e-3), (1000, 0.05, 1e-6), (300, 0.01, 1e-5)])
def test_the_threshold_is_the_least_that_keeps_the_rate(window, alpha, asked):
    alarm = Alarm(window, alpha, asked)
    share = alpha + 3 * np.sqrt(alpha * (1 - alpha) / 10_000)
    rate = share * (1 - share) * binom.pmf(np.arange(window), window - 1, share)  # of c = 1, 2, ...
    assert rate[alarm.threshold - 1] <= asked < rate[alarm.threshold - 2]
    assert alarm.start_rate(alarm.threshold, share) == pytest.approx(rate[alarm.threshold - 1])


def test_data_like_actions_raise_no_more_alarms_than_stated_and_not_many_fewer():
    # So many rows that the share alpha is known; a rate that shows itself in two million draws.
    alarm = Alarm(window=50, alpha=0.1, false_alarms=1e-3, rows=10**12)
    draws = 2_000_000
    begun = Window(alarm).add(np.random.default_rng(0).random(draws) < alarm.alpha)
    stated = alarm.start_rate(alarm.threshold, alarm.alpha) * draws
    # Crossings of c come in bursts, of which only the first counts: two to three here.
    assert 0.3 * stated < begun < stated
    assert stated < 1e-3 * draws


def test_a_share_above_the_datas_raises_one_alarm_that_ends_with_it():
    alarm = Alarm(window=200, alpha=0.05, false_alarms=1e-6)
    rng, window = np.random.default_rng(1), Window(alarm)
    assert window.add(rng.random(5_000) < 0.05) == 0
    assert window.add(rng.random(5_000) < 0.4) == 1
    assert window.on
    window.add(rng.random(5_000) < 0.05)
    assert not window.on
    assert window.add(rng.random(5_000) < 0.4) == 1


def test_one_by_one_or_together_is_the_same():
    alarm = Alarm(window=20, alpha=0.2, false_alarms=0.005)
    unusual = np.random.default_rng(2).random(3_000) < np.repeat([0.2, 0.6, 0.1], 1_000)
    together, single = Window(alarm), Window(alarm)
    begun = sum(single.add(unusual[i : i + 1]) for i in range(len(unusual)))
    assert together.add(unusual) == begun > 0
    assert (together.unusual, together.on, together.filled) == (single.unusual, single.on, single.filled)
    assert single.unusual == unusual[-20:].sum()


@pytest.mark.parametrize("batch", [1, 7, 3_000])
def test_every_third_observation_counts_however_they_come(batch):
    unusual = np.random.default_rng(3).random(3_000) < 0.3
    thinned, plain = (Window(Alarm(window=50, alpha=0.2, false_alarms=0.005, every=every)) for every in (3, 1))
    begun = sum(thinned.add(unusual[i : i + batch]) for i in range(0, len(unusual), batch))
    assert begun == plain.add(unusual[::3]) > 0
    assert thinned.unusual == plain.unusual == unusual[::3][-50:].sum()


def test_an_alarm_goes_off_in_a_window_that_is_not_full_yet():
    window = Window(Alarm(window=1000, alpha=0.05, false_alarms=1e-6))
    assert window.add(np.ones(window.alarm.threshold - 1, bool)) == 0
    assert window.add(np.ones(1, bool)) == 1
    assert window.filled == window.alarm.threshold < 1000


@pytest.mark.parametrize(
    "values, text",
    [
        ({"alpha": 0.001}, r"alpha must lie in \[.01, .5\)"),
        ({"window": 0}, "window, rows and every must be at least 1"),
        ({"false_alarms": 1.0}, r"false_alarms in \(0, 1\)"),
        ({"window": 3}, "A window of 3 observations cannot tell one false alarm in 1e"),
    ],
)
def test_what_cannot_be_kept_is_told(values, text):
    with pytest.raises(InputError, match=text):
        Alarm(**values)
