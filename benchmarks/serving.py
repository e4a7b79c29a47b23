r"""A corrected policy that serves 10,000 environments in one process: does its memory grow, does it slow down?

    OMP_NUM_THREADS=1 python benchmarks/serving.py [--minutes 10] [--pointmass FILE] [--hopper FILE] [--output FOLDER]

Three loads take turns, each over `--rows` environments: `cdsa.correct` around a function, in lanes of Risky PointMass
that restart as soon as they finish; `cdsa.correct` around a perceptron 2 x 256, on observations of Hopper's width that
walk at random; `CorrectedPolicy` through `rollout`, every episode of Risky PointMass begun and ended. The correctors
are files; without `--pointmass` and `--hopper` fresh ones with the robust preset's networks.

Resident memory is read after every turn. Growth is the median of the last fifth over the median of the first after
warm-up (the first tenth of the time, at most a minute); speed is rows per second of CPU time, last fifth over first.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import cdsa_lightning as cdsa
from cdsa_lightning.acting import episode_seed
from cdsa_lightning.core.artifact import load_corrector, save_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Corrector
from cdsa_lightning.core.networks import Networks
from cdsa_lightning.core.policy import NormalizedPolicy
from cdsa_lightning.plots.style import BLACK, BLUE, DASHES, VERMILLION, bare
from cdsa_lightning.presets import get_preset
from cdsa_lightning.rollout import rollout
from cdsa_lightning.tasks import get_task

POINTMASS, HOPPER = "risky-pointmass", "gym:Hopper-v5"
STEPS = {"pointmass": 10, "hopper": 10}
"""Steps of all rows in one turn."""


def corrector_file(task, folder):
    """A corrector of the robust preset's shapes, never trained, as a file."""
    nets = Networks(task.obs_dim, task.action_dim, get_preset("robust").networks, [torch.Generator().manual_seed(0)])
    coefficients = Coefficients(k1=1.0, k2=1.0, units="sigma2", clip="every_step", a2="residual")
    corrector = Corrector(nets, task.low, task.high, task.obs_dim, coefficients)
    rows = torch.randn(1000, task.obs_dim), torch.zeros(1000, task.action_dim)
    corrector.measure_noise(*rows)
    return save_corrector(corrector, folder / f"{task.env_id.replace('/', '-')}.safetensors")


def straight(obs):
    """Half the way to the goal, as a stranger's program would write it."""
    return 0.5 * (obs[..., 2:] - obs[..., :2])


def pointmass(rows, corrector):
    """Endless steps of `rows` lanes of Risky PointMass behind `cdsa.correct`; each turn yields the rows served."""
    env, safe = get_task(POINTMASS).make_env(rows), cdsa.correct(straight, corrector)
    begun = rows
    obs, _ = env.reset(seed=0)
    while True:
        for _ in range(STEPS["pointmass"]):
            obs, _, terminated, truncated, _ = env.step(safe(obs))
            done = terminated | truncated
            if done.any():
                seeds = [None] * rows
                for lane in np.flatnonzero(done).tolist():
                    seeds[lane], begun = episode_seed(0, begun), begun + 1
                obs, _ = env.reset(seed=seeds, options={"reset_mask": done})
        yield rows * STEPS["pointmass"]


def perceptron(task):
    """A perceptron 2 x 256, never trained."""
    layers = [torch.nn.Linear(task.obs_dim, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(256, task.action_dim), torch.nn.Tanh())
    return NormalizedPolicy(net, task.low, task.high, np.zeros(task.obs_dim), np.ones(task.obs_dim)).eval()


def hopper(rows, corrector):
    """Endless answers to `rows` observations of Hopper's width that walk at random."""
    task, rng = get_task(HOPPER), np.random.default_rng(0)
    safe = cdsa.correct(perceptron(task), corrector)
    obs = rng.normal(size=(rows, task.obs_dim)).astype(np.float32)
    while True:
        for _ in range(STEPS["hopper"]):
            action = safe(obs)
            step = rng.normal(size=obs.shape).astype(np.float32)
            obs = 0.99 * obs + 0.1 * step + 0.01 * action.mean(1, keepdims=True)
        yield rows * STEPS["hopper"]


def episodes(rows, corrector):
    """Endless rollouts of `rows` episodes side by side."""
    task, turn = get_task(POINTMASS), 0
    policy = CorrectedPolicy(cdsa.load_policy("shortest_path", None, task), load_corrector(corrector).select(0))
    while True:
        yield int(rollout(policy, task, rows, turn, lanes=rows).lengths.sum())
        turn += 1


def resident():
    """Resident memory of this process, bytes."""
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def serve(minutes, rows, files):
    """Turns of the three loads until the time is over.

    Returns:
        seconds [n] and memory [n] after each turn; rows per CPU second [n] of each load.
    """
    loads = {
        "pointmass": pointmass(rows, files[POINTMASS]),
        "hopper": hopper(rows, files[HOPPER]),
        "rollout": episodes(rows, files[POINTMASS]),
    }
    begun, seconds, memory, speed = time.monotonic(), [], [], {name: [] for name in loads}
    while not seconds or seconds[-1] < 60 * minutes:
        for name, load in loads.items():
            before = time.process_time()
            served = next(load)
            speed[name].append(served / (time.process_time() - before))
        seconds.append(time.monotonic() - begun)
        memory.append(resident())
    return np.array(seconds), np.array(memory), {name: np.array(values) for name, values in speed.items()}


def judge(seconds, memory, speed):
    """Growth of memory and its whole range after warm-up, as shares; speed of every load, last fifth over first."""
    kept = seconds > min(60.0, 0.1 * seconds[-1])
    share = (seconds - seconds[kept][0]) / (seconds[-1] - seconds[kept][0])
    first, last = kept & (share <= 0.2), share >= 0.8
    growth = np.median(memory[last]) / np.median(memory[first]) - 1
    spread = memory[kept].max() / memory[kept].min() - 1
    return growth, spread, {name: np.median(v[last]) / np.median(v[first]) for name, v in speed.items()}


def draw(seconds, memory, speed, file):
    """Memory and speed over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot(seconds / 60, memory / 2**20, color=BLACK)
    upper.set(ylabel="resident memory, MiB", ylim=(0, 1.2 * memory.max() / 2**20))
    for (name, values), colour, dash in zip(speed.items(), (VERMILLION, BLACK, BLUE), DASHES, strict=False):
        lower.plot(seconds / 60, values / 1e3, color=colour, linestyle=dash, label=name)
    lower.set(xlabel="minutes", ylabel="1,000 rows per CPU second", ylim=(0, None))
    lower.legend(ncols=3, frameon=False, fontsize="small")
    for axes in (upper, lower):
        bare(axes)
    figure.savefig(file, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--pointmass", type=Path, help="a corrector of Risky PointMass")
    parser.add_argument("--hopper", type=Path, help="a corrector of Hopper")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder of serving.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        given = {POINTMASS: options.pointmass, HOPPER: options.hopper}
        files = {name: file or corrector_file(get_task(name), Path(folder)) for name, file in given.items()}
        seconds, memory, speed = serve(options.minutes, options.rows, files)
    growth, spread, ratios = judge(seconds, memory, speed)
    print(f"{len(seconds)} turns in {seconds[-1] / 60:.1f} minutes, {options.rows} environments each")
    print(f"memory {memory[-1] / 2**20:.0f} MiB: growth {growth:+.2%} (target 1 %), largest over least {spread:+.2%}")
    for name, ratio in ratios.items():
        print(f"{name}: {np.median(speed[name]):,.0f} rows per CPU second, last fifth / first {ratio:.2f}")
    options.output.mkdir(parents=True, exist_ok=True)
    draw(seconds, memory, speed, options.output / "serving.png")
    print(options.output / "serving.png")


if __name__ == "__main__":
    main()
