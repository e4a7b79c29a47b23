"""Two minutes of serving through benchmarks/serving.py: what a process holds does not grow."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cdsa_lightning.tasks import get_task

PATH = Path(__file__).parents[1] / "benchmarks" / "serving.py"
spec = importlib.util.spec_from_file_location("serving", PATH)
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


def test_growth_compares_the_last_fifth_with_the_first_after_warm_up():
    seconds = np.arange(1.0, 101.0)
    memory = np.where(seconds <= 10, 50.0, 100.0 + 0.1 * (seconds - 11))  # 10 of 100 seconds are warm-up
    growth, spread, speed = bench.judge(seconds, memory, {"rows": 200.0 - seconds})
    first, last = memory[(seconds > 10) & (seconds <= 28)], memory[seconds >= 83]
    assert growth == pytest.approx(np.median(last) / np.median(first) - 1, abs=1e-3) and growth > 0.05
    assert spread == pytest.approx(0.089) and speed["rows"] < 0.65


def test_a_turn_serves_every_load(tmp_path):
    files = {name: bench.corrector_file(get_task(name), tmp_path) for name in (bench.POINTMASS, bench.HOPPER)}
    seconds, memory, speed = bench.serve(0.0, 20, files)
    assert len(seconds) == len(memory) == 1 and memory[0] > 0
    assert set(speed) == {"pointmass", "hopper", "rollout"} and all(len(v) == 1 and v[0] > 0 for v in speed.values())


@pytest.mark.slow
def test_a_corrected_policy_serves_ten_thousand_environments_in_flat_memory(tmp_path):
    files = {name: bench.corrector_file(get_task(name), tmp_path) for name in (bench.POINTMASS, bench.HOPPER)}
    seconds, memory, _ = bench.serve(2.0, 10_000, files)
    growth, _, _ = bench.judge(seconds, memory, {})
    assert len(seconds) >= 3 and growth < 0.01
