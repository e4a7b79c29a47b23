"""Rollouts in lockstep against the loop that peers write: gymnasium.make, one torch forward per step, batch 1.

    OMP_NUM_THREADS=1 python benchmarks/rollout.py [--envs Hopper-v5] [--checkpoints clone.npz] [--episodes 64]

Both sides run the same policy (a perceptron 2 x 256, from a checkpoint of the `mlp` baseline or freshly initialised),
plain and corrected (robust preset, three sigmas, fresh weights), in one process on one thread. Repeats alternate;
a ratio is the median over the repeats of CPU times per step. The last columns compare the returns, from independent
starts: z is lockstep minus loop in standard errors of the difference.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Corrector
from cdsa_lightning.core.networks import Networks
from cdsa_lightning.core.policy import NormalizedPolicy
from cdsa_lightning.presets import get_preset
from cdsa_lightning.registry import load_policy
from cdsa_lightning.rollout import episode_seed, rollout
from cdsa_lightning.tasks import get_task


def fresh_policy(task):
    """A perceptron 2 x 256 with tanh output and untrained weights."""
    net = nn.Sequential(
        nn.Linear(task.obs_dim, 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, task.action_dim),
        nn.Tanh(),
    )
    return NormalizedPolicy(net, task.low, task.high, np.zeros(task.obs_dim), np.ones(task.obs_dim)).eval()


def corrected(policy, task, preset="robust"):
    """`policy` with an untrained corrector: one denoising step at each of the preset's sigmas."""
    networks = Networks(task.obs_dim, task.action_dim, get_preset(preset).networks, [torch.Generator().manual_seed(0)])
    coefficients = Coefficients(k1=1.0, units="sigma2", clip="every_step", a2="off")
    return CorrectedPolicy(policy, Corrector(networks, task.low, task.high, task.obs_dim, coefficients)).eval()


@torch.no_grad()
def loop(policy, task, episodes, seed):
    """One episode after the other, one step after the other; returns [episodes] and the number of steps."""
    env, returns, steps = task.make_single(), np.zeros(episodes), 0
    for i in range(episodes):
        obs, _ = env.reset(seed=episode_seed(seed, i))
        done = False
        while not done:
            action = policy(torch.as_tensor(obs, dtype=torch.float32).unsqueeze(0)).squeeze(0).numpy()
            obs, reward, terminated, truncated, _ = env.step(action)
            returns[i] += reward
            steps += 1
            done = terminated or truncated
    env.close()
    return returns, steps


def lockstep(policy, task, episodes, seed):
    """The same through `rollout`."""
    result = rollout(policy, task, episodes, seed)
    return result.returns[0], int(result.lengths.sum())


def microseconds(run, *args):
    """Returns, and CPU time per step."""
    begin = time.process_time()
    returns, steps = run(*args)
    return returns, (time.process_time() - begin) / steps * 1e6


def compare(policy, task, episodes, repeats):
    """Medians of the microseconds per step of loop and lockstep, and of their ratio; all returns of both."""
    returns, times = {loop: [], lockstep: []}, {loop: [], lockstep: []}
    for repeat in range(repeats):
        for run, count in ((loop, max(1, episodes // 4)), (lockstep, episodes)):
            # Seeds of their own: the two sides' returns are then independent samples.
            got, took = microseconds(run, policy, task, count, 2 * repeat + (run is lockstep))
            returns[run].append(got)
            times[run].append(took)
    ratio = np.median(np.array(times[loop]) / np.array(times[lockstep]))
    slow, fast = np.median(times[loop]), np.median(times[lockstep])
    return slow, fast, ratio, np.concatenate(returns[loop]), np.concatenate(returns[lockstep])


def main():
    """Print one row per environment, plain and corrected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--checkpoints", nargs="*", type=Path, default=[], help="one mlp checkpoint per environment")
    parser.add_argument("--episodes", type=int, default=64, help="lockstep, per repeat; the loop runs a quarter")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    if args.checkpoints and len(args.checkpoints) != len(args.envs):
        parser.error(f"{len(args.checkpoints)} checkpoints for {len(args.envs)} environments")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'environment':<16} {'policy':<10} {'loop us':>8} {'lanes us':>8} {'ratio':>6}   return: loop, lanes, z")
    for i, env_id in enumerate(args.envs):
        task = get_task(f"gym:{env_id}")
        base = load_policy("mlp", args.checkpoints[i], task) if args.checkpoints else fresh_policy(task)
        for name, policy in (("plain", base), ("corrected", corrected(base, task))):
            slow, fast, ratio, a, b = compare(policy, task, args.episodes, args.repeats)
            error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
            print(
                f"{env_id:<16} {name:<10} {slow:8.1f} {fast:8.1f} {ratio:5.2f}x   {a.mean():.1f} {b.mean():.1f} "
                f"{(b.mean() - a.mean()) / error:+.2f} (n = {len(a)}, {len(b)})",
                flush=True,
            )


if __name__ == "__main__":
    main()
