r"""The risky worlds swept: how strong, how often and at which sigma to correct, and what accidents cost.

    OMP_NUM_THREADS=1 python benchmarks/risky.py strength [--runs runs] [--episodes 200] [--figures docs/gallery]
    OMP_NUM_THREADS=1 python benchmarks/risky.py accidents
    OMP_NUM_THREADS=1 python benchmarks/risky.py pointmass
    OMP_NUM_THREADS=1 python benchmarks/risky.py transportation

`strength`: Risky transportation, SAC under the newest corrector with K2 = 0 to 3: share of episodes that touch a region
and that reach the target, every SAC seed under every corrector seed and under the mean of all. `accidents`: return and
CVaR at accident probabilities .01 and .1. `pointmass` and `transportation`: correctors fitted at several sigmas, each
used for 1 to 20 steps, as heat maps; the baselines are the shortest path and SAC. SAC and the corrector are the newest
under --runs; `cdsa fit` makes them (docs/results.md).
"""

import argparse
import logging
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning import Trainer

from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.data import TransitionData
from cdsa_lightning.metrics.functional import conditional_value_at_risk
from cdsa_lightning.plots import heatmap, sweep_curve
from cdsa_lightning.presets import coefficients_for
from cdsa_lightning.records import write_figure
from cdsa_lightning.registry import load_policy
from cdsa_lightning.rollout import rollout
from cdsa_lightning.runs import newest_checkpoint, newest_corrector
from cdsa_lightning.tasks import get_task
from cdsa_lightning.training import CDSAModule

PATH = "risky-transportation"
TASKS = (PATH, f"{PATH}-goods", f"{PATH}-airport")
STEPS = (1, 2, 3, 5, 10, 20)
SIGMAS = {"pointmass": (0.1, 0.3, 0.5, 0.7, 1.0), "transportation": (0.05, 0.1, 0.15, 0.2, 0.3)}


def shares(policy, task, episodes, **world):
    """Shares of episodes that touched a region and that reached the goal, per seed of the policy."""
    run = rollout(policy, task, episodes, seed=0, env_kwargs=world or None)
    reached = run.info.get("success", run.terminated)
    return (run.info["in_risk_region"] > 0).mean(1), reached.mean(1)


def sac(task, runs):
    """The newest SAC of a transportation task."""
    return load_policy("sac", newest_checkpoint("sac", task, runs), get_task(task))


def strength(options):
    """Touch and reach over K2."""
    corrector = load_corrector(newest_corrector(PATH, None, options.runs))
    own = coefficients_for(PATH, "sac", "robust")
    one_by_one = [corrector.select(row) for row in range(corrector.num_seeds)]
    curves = {}
    for name in TASKS:
        task, policy = get_task(name), sac(name, options.runs)
        for k2 in (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0):
            coefficients = replace(own, k2=k2)
            touch, reach = np.array(
                [
                    shares(CorrectedPolicy(policy, one, coefficients), task, options.episodes)
                    for one in (*one_by_one, corrector.ensemble())
                ]
            ).transpose(1, 0, 2)  # each [correctors, policy seeds], the mean of all correctors last
            print(
                f"{name:29} K2 {k2:4.2f}  touch {touch[:-1].mean():6.1%}, worst pair {touch[:-1].max():6.1%}, "
                f"mean of seeds {touch[-1].mean():6.1%}   reach {reach[:-1].mean():6.1%}, worst pair "
                f"{reach[:-1].min():6.1%}, mean of seeds {reach[-1].mean():6.1%}",
                flush=True,
            )
            curves.setdefault(name, []).append((k2, touch[:-1].mean(), reach[:-1].mean()))
    labels = ("episodes that touch a region", "episodes that reach the target")
    figure = sweep_curve({name: np.array(points) for name, points in curves.items()}, *labels, parameter="K2")
    print(write_figure(figure, options.figures / "strength.png"))


def accidents(options):
    """Return and CVaR where accidents are rare, and where they are frequent."""
    corrector = load_corrector(newest_corrector(PATH, None, options.runs))
    for name in TASKS:
        task, policy = get_task(name), sac(name, options.runs)
        corrected = CorrectedPolicy(policy, corrector, coefficients_for(name, "sac", "robust"))
        for risk_prob in (0.01, 0.1):
            for arm, acting in (("sac", policy), ("cdsa(sac)", corrected)):
                run = rollout(acting, task, options.episodes, seed=0, env_kwargs={"risk_prob": risk_prob})
                tail = conditional_value_at_risk(torch.as_tensor(run.returns).reshape(-1), 0.1)
                print(
                    f"{name:29} accidents at {risk_prob:4}  {arm:9}  return {run.returns.mean():7.1f}  CVaR 10 % "
                    f"{tail:7.1f}  accidents per episode {run.info['cost'].mean():.3f}",
                    flush=True,
                )


def fit(task, steps, **settings):
    """A corrector with the robust preset, in memory."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            max_steps=steps, accelerator="cpu", default_root_dir=folder, enable_checkpointing=False, **quiet
        )
        trainer.fit(CDSAModule("robust", **settings), datamodule=TransitionData(task))
        return load_corrector(Path(folder) / "corrector.safetensors")


def sweep(world, options):
    """Heat maps over sigma and the number of steps."""
    sigmas = SIGMAS[world]
    name = f"risky-{world}"
    task, own = get_task(name), coefficients_for(name, "*", "robust")
    if world == "pointmass":
        policy = load_policy("shortest_path", None, task)
        corrector = fit(name, options.steps, action_sigmas=list(sigmas))
        correctors = dict.fromkeys(sigmas, corrector)
    else:
        policy = sac(name, options.runs)
        correctors = {
            sigma: fit(name, options.steps, action_sigmas=[0.7], state_sigma=sigma, state_score_input="state")
            for sigma in sigmas
        }
    tables = np.zeros((2, len(sigmas), len(STEPS)))
    for i, sigma in enumerate(sigmas):
        for j, steps in enumerate(STEPS):
            schedule = (sigma,) if world == "pointmass" else own.schedule
            corrected = CorrectedPolicy(policy, correctors[sigma], replace(own, schedule=schedule, num_steps=steps))
            tables[:, i, j] = [share.mean() for share in shares(corrected, task, options.episodes)]
            print(
                f"{name} sigma {sigma:4} steps {steps:2}  in a region {tables[0, i, j]:6.1%}  "
                f"reached {tables[1, i, j]:6.1%}",
                flush=True,
            )
    swept = "action sigma" if world == "pointmass" else "state sigma"
    for table, file, label in zip(
        tables, ("risk", "reach"), ("that entered a region", "that reached the goal"), strict=True
    ):
        figure = heatmap(
            100 * table,
            [f"{sigma:g}" for sigma in sigmas],
            [str(steps) for steps in STEPS],
            title=name,
            row_title=f"{swept} (std)",
            column_title="steps",
            label=f"% of episodes {label}",
            format="{:.0f}",
        )
        print(write_figure(figure, options.figures / f"{world}_{file}.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["strength", "accidents", "pointmass", "transportation"])
    parser.add_argument("--runs", default="runs", help="where SAC and the corrector lie")
    parser.add_argument("--episodes", type=int, default=200, help="per training seed")
    parser.add_argument("--steps", type=int, default=10000, help="gradient steps of each fitted corrector")
    parser.add_argument("--figures", type=Path, default=Path("docs/gallery"), help="where pictures go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"strength": strength, "accidents": accidents}.get(options.what, lambda o: sweep(options.what, o))(options)
