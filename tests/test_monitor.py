"""The monitor: what it counts, when it calls, what Prometheus reads; what it costs is in benchmarks/deploy.py."""

import builtins
import json
import sys
import threading
import urllib.request

import numpy as np
import prometheus_client
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

import cdsa_lightning as cdsa
from cdsa_lightning.core.artifact import save_corrector
from cdsa_lightning.errors import InputError
from known_networks import ACTION, OBS, gaussian_corrector, random_corrector

MEAN, STD, SIGMA, BOUND = 0.0, 0.1, 0.2, 0.3
STEP = cdsa.Coefficients(k1=1.0, units="sigma2", a2="off")


def like_the_data(obs):
    return obs[..., :ACTION]


@pytest.fixture
def corrector():
    """Knows that a | s ~ N(0, .1^2), measured on ten thousand draws."""
    corrector = gaussian_corrector(MEAN, STD, (SIGMA,), predict="noise", bound=BOUND)
    data = torch.randn(10_000, ACTION, generator=torch.Generator().manual_seed(0)) * STD
    corrector.measure_noise(torch.zeros(len(data), OBS), data)
    corrector.coefficients = STEP
    return corrector


def draws(count, scale=STD, seed=1):
    return np.random.default_rng(seed).normal(MEAN, scale, (count, OBS)).astype(np.float32)


def test_everything_is_counted_once(corrector):
    monitor = cdsa.Monitor(corrector)
    safe = cdsa.correct(like_the_data, corrector, monitor=monitor)
    safe(np.zeros(OBS))  # the mean: nothing to correct
    safe.explain(np.full((2, OBS), 0.1))
    found = safe.explain(np.array([1.0, 0.1, 0.0]))
    with pytest.raises(InputError):
        safe(np.array([[np.nan] * OBS, [0.0] * OBS]))
    told = monitor.summary()
    assert {key: told[key] for key in ("observations", "corrected", "clipped", "refused", "alarms")} == {
        "observations": 4,
        "corrected": 3,
        "clipped": 0,
        "refused": 1,
        "alarms": 0,
    }
    # eps = sigma (a - mean) / (std^2 + sigma^2), and a is .3 at most.
    assert found.score_norm == pytest.approx(SIGMA / (STD**2 + SIGMA**2) * np.hypot(BOUND, 0.1), rel=1e-5)
    assert told["score_norm"]["count"] == told["p_value"]["count"] == told["shift"]["count"] == 4
    assert told["shift"]["mean"] == pytest.approx((2 * 0.8 * np.hypot(0.1, 0.1) + 0.8 * np.hypot(BOUND, 0.1)) / 4)
    monitor.reset()
    assert monitor.summary() == cdsa.Monitor(corrector).summary()


def test_clips_are_counted(corrector):
    monitor = cdsa.Monitor(corrector, alarm=None)
    away = cdsa.Coefficients(k1=-1.0, units="sigma2", a2="off")
    cdsa.correct(like_the_data, corrector, away, monitor=monitor)(np.full((3, OBS), 0.25))
    assert monitor.summary()["clipped"] == 3
    assert monitor.summary()["alarm"] is None


def test_the_datas_own_actions_fill_the_buckets_as_the_data_did(corrector):
    monitor = cdsa.Monitor(corrector)
    cdsa.correct(like_the_data, corrector, monitor=monitor)(draws(20_000))
    told = monitor.summary()
    shares = np.array(told["score_norm"]["at_or_below"]) / 20_000
    assert np.allclose(shares[:8], [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0], atol=0.015)
    edges, below = told["p_value"]["edges"], np.array(told["p_value"]["at_or_below"]) / 20_000
    assert np.allclose(below, edges, atol=0.015)  # uniform


def test_data_raise_no_alarm_and_a_shifted_policy_raises_one(corrector):
    calls = []
    monitor = cdsa.Monitor(corrector, cdsa.Alarm(window=500), calls.append)
    safe = cdsa.correct(like_the_data, corrector, monitor=monitor)
    safe(draws(50_000))
    assert (monitor.summary()["alarms"], calls) == (0, [])
    assert not monitor.summary()["alarm"]["on"]
    safe(draws(2_000) + 0.15)
    assert monitor.summary()["alarms"] == len(calls) == 1
    assert calls[0]["alarm"]["on"] and calls[0]["alarm"]["unusual"] >= calls[0]["alarm"]["threshold"]
    assert json.loads(json.dumps(monitor.summary(), allow_nan=False)) == monitor.summary()


def test_an_answer_that_is_no_number_is_as_unusual_as_can_be(corrector):
    corrector.networks.action_score.layers[0].bias.data.fill_(float("nan"))
    monitor = cdsa.Monitor(corrector)
    action = cdsa.correct(like_the_data, corrector, monitor=monitor)(np.full(OBS, 0.1))
    assert np.allclose(action, 0.1)  # the policy's own
    told = monitor.summary()
    assert told["p_value"]["at_or_below"][0] == 1 and told["alarm"]["unusual"] == 1
    assert told["score_norm"]["at_or_below"][-1] == 0 and told["score_norm"]["count"] == 1


def test_a_batch_counts_as_its_rows_and_torch_as_numpy(corrector):
    obs = draws(300, 0.2)
    found = []
    for batches in ([obs], list(obs), [torch.tensor(obs)]):
        monitor = cdsa.Monitor(corrector)
        safe = cdsa.correct(like_the_data, corrector, monitor=monitor)
        for batch in batches:
            safe(batch)
        found.append(monitor.summary())
    for key in ("score_norm", "p_value", "shift"):
        assert found[0][key]["at_or_below"] == found[1][key]["at_or_below"] == found[2][key]["at_or_below"]
        assert found[0][key]["mean"] == pytest.approx(found[1][key]["mean"])
    assert found[0]["alarm"] == found[1]["alarm"] == found[2]["alarm"]


def test_many_threads_lose_no_count(corrector):
    monitor = cdsa.Monitor(corrector)
    seen = cdsa.correct(like_the_data, corrector).explain(draws(10))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        work = [threading.Thread(target=lambda: [monitor.observe(seen) for _ in range(200)]) for _ in range(8)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    told = monitor.summary()
    assert told["observations"] == told["shift"]["count"] == told["p_value"]["count"] == 16_000


def test_a_monitor_is_made_of_what_corrects(tmp_path):
    corrector = random_corrector(bound=1.0, predict="noise", action_sigmas=(SIGMA,))
    corrector.measure_noise(torch.zeros(500, OBS), torch.tensor(draws(500)[:, :ACTION]))
    path = save_corrector(corrector, tmp_path / "corrector.safetensors")
    edges = [
        cdsa.Monitor(given).summary()["score_norm"]["edges"]
        for given in (corrector, path, cdsa.correct(like_the_data, corrector))
    ]
    assert edges[0] == edges[1] == edges[2]
    with pytest.raises(InputError, match="not a int"):
        cdsa.Monitor(3)
    with pytest.raises(InputError, match="lacks: fit it again"):
        cdsa.Monitor(gaussian_corrector(MEAN, STD, (SIGMA,), predict="noise"))


def scraped(registry):
    """What the official parser reads: (sample name, labels) -> value."""
    text = prometheus_client.generate_latest(registry).decode()
    families = list(text_string_to_metric_families(text))
    samples = {(s.name, tuple(s.labels.items())): s.value for family in families for s in family.samples}
    return samples, {family.name: family.type for family in families}


def test_prometheus_reads_what_the_monitor_says(corrector):
    monitor, registry = cdsa.Monitor(corrector), prometheus_client.CollectorRegistry()
    registry.register(cdsa.PrometheusExporter(monitor, "robot"))
    assert scraped(registry)[0]["robot_observations_total", ()] == 0
    cdsa.correct(like_the_data, corrector, monitor=monitor)(draws(1_000, 0.2))
    samples, types = scraped(registry)
    told = monitor.summary()
    for key in ("observations", "corrected", "clipped", "refused", "alarms"):
        assert samples[f"robot_{key}_total", ()] == told[key]
        assert types[f"robot_{key}"] == "counter"
    for key in ("score_norm", "p_value", "shift"):
        assert types[f"robot_{key}"] == "histogram"
        for edge, below in zip(told[key]["edges"], told[key]["at_or_below"], strict=True):
            assert samples[f"robot_{key}_bucket", (("le", str(edge)),)] == below
        assert samples[f"robot_{key}_bucket", (("le", "+Inf"),)] == samples[f"robot_{key}_count", ()] == 1_000
        assert samples[f"robot_{key}_sum", ()] == pytest.approx(told[key]["mean"] * 1_000)
    assert samples["robot_alarm", ()] == told["alarm"]["on"] == 1
    assert samples["robot_unusual_ratio", ()] == told["alarm"]["unusual"] / 1_000
    assert types["robot_unusual_ratio_limit"] == "gauge"


def test_prometheus_scrapes_over_http(corrector):
    monitor, registry = cdsa.Monitor(corrector), prometheus_client.CollectorRegistry()
    registry.register(cdsa.PrometheusExporter(monitor))
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    try:
        cdsa.correct(like_the_data, corrector, monitor=monitor)(draws(7))
        page = urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10).read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    found = {s.name: s.value for family in text_string_to_metric_families(page) for s in family.samples}
    assert found["cdsa_observations_total"] == 7


def test_without_the_extra_the_remedy_is_told(corrector, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("prometheus_client"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r'pip install "cdsa-lightning\[prometheus\]"'):
        cdsa.PrometheusExporter(cdsa.Monitor(corrector))


def test_a_prefix_that_is_no_name_is_told(corrector):
    with pytest.raises(InputError, match="got the prefix 'my robot'"):
        cdsa.PrometheusExporter(cdsa.Monitor(corrector), "my robot")
