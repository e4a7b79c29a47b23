"""What correcting and watching costs, batch 1, and how often the monitor's alarm goes off on data.

    python benchmarks/deploy.py CORRECTOR [SOURCE]

Ratios of medians, alternated in one process: `correct()` against the raw policy (a network of 2 x 256 units on the
CPU), and with a monitor against without; one denoising step per trained sigma. With SOURCE (``minari:...``) the alarm
is shown the data's own actions, shuffled and in the order of time.
"""

import argparse
import statistics
import time

import numpy as np
import torch

import cdsa_lightning as cdsa
from cdsa_lightning.sources import load_transitions


def medians(calls, repeats=15, count=100):
    """Microseconds per call of each, the median over alternated repeats."""
    times = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(count):
                call()
            times[name].append((time.perf_counter() - began) / count * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def costs(corrector):
    torch.set_num_threads(1)
    sizes = (corrector.obs_dim, 256, 256, corrector.action_dim)
    layers = [part for a, b in zip(sizes, sizes[1:], strict=False) for part in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    policy = torch.nn.Sequential(*layers[:-1], torch.nn.Tanh())
    obs = np.zeros(corrector.obs_dim, np.float32)
    step = cdsa.Coefficients(k1=1.0, units="sigma2", clip="every_step", a2="off")
    plain, watched = (cdsa.correct(policy, corrector, step, monitor=m) for m in (None, cdsa.Monitor(corrector)))
    seen = plain.explain(obs)
    monitor = cdsa.Monitor(corrector)

    @torch.no_grad()
    def raw():
        return policy(torch.as_tensor(obs)[None])[0].numpy()

    calls = {"raw policy": raw, "safe(obs)": lambda: plain(obs), "safe.explain(obs)": lambda: plain.explain(obs)}
    calls |= {"safe(obs), monitored": lambda: watched(obs), "monitor.observe": lambda: monitor.observe(seen)}
    found = medians(calls)
    for name, value in found.items():
        against = f"{value / found['raw policy']:6.2f}x raw, {value / found['safe(obs)']:5.2f}x safe(obs)"
        print(f"{name:22s} {value:8.1f} us  {against}")


def alarms(corrector, source):
    data, rng = load_transitions(source), np.random.default_rng(0)
    for name, order in {"shuffled": rng.permutation(len(data)), "in time": np.arange(len(data))}.items():
        for every in (1, 10):
            rows = order[::every]
            for window, alpha, rate in ((1000, 0.05, 1e-6), (1000, 0.05, 1e-3), (1000, 0.01, 1e-3)):
                monitor = cdsa.Monitor(corrector, cdsa.Alarm(window, alpha, rate))
                for part in np.array_split(rows, max(1, len(rows) // 10_000)):
                    cdsa.correct(lambda obs, part=part: data.action[part], corrector, monitor=monitor)(data.obs[part])
                said = monitor.summary()
                told = f"{name}, every {every}: window {window}, alpha {alpha}, at most {rate * len(rows):.3g} alarms"
                print(f"{told} -> {said['alarms']} in {len(rows)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corrector")
    parser.add_argument("source", nargs="?")
    options = parser.parse_args()
    corrector = cdsa.load_corrector(options.corrector)
    corrector = corrector if corrector.networks.ensemble else corrector.select(0)
    costs(corrector)
    if options.source:
        alarms(corrector, options.source)


if __name__ == "__main__":
    main()
