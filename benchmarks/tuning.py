r"""When to correct: the rules of `cdsa tune` against every candidate measured in the environment, over many policies.

    python benchmarks/tuning.py measure --task hopper-medium --corrector FILE --policies FILE.csv --output pairs.jsonl
    python benchmarks/tuning.py table pairs.jsonl [...] [--fitted hopper-medium walker2d-medium]

`measure` adds a line for every policy of the list that is not there yet: the measures that the data rule reads, and the
returns of every candidate. The list is a CSV of name, baseline, checkpoint (may be empty), noise on the actions and,
where it is not that of the data, the task that it was trained on.
`table` prints, for each pair of data and policy, what each rule would have made of it; a gain is a difference of mean
returns (normalised score where the task has a scale), a harm one whose 95 % interval lies below 0. `--fitted` names
the tasks that the data rule's thresholds were fitted on; the others are reported apart.
"""

import argparse
import csv
import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from cdsa_lightning.audit import Measures, Reference, audit
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.metrics.bootstrap import bootstrap_difference
from cdsa_lightning.presets import default_coefficients
from cdsa_lightning.registry import load_policy
from cdsa_lightning.rollout import NoisyPolicy, rollout
from cdsa_lightning.tasks import get_task
from cdsa_lightning.tuning import Returns, candidates, data_rule, return_rule

ROWS = 5000


def policies(path, task):
    """Name and policy of each line."""
    with open(path, newline="") as file:
        for line in csv.DictReader(file):
            checkpoint = Path(line["checkpoint"]) if line["checkpoint"] else None
            trained = get_task(line["task"]) if line.get("task") else task
            policy, noise = load_policy(line["baseline"], checkpoint, trained), float(line["noise"] or 0)
            yield line["name"], NoisyPolicy(policy, noise) if noise else policy


def measure(options):
    """Every policy that is not in the output yet."""
    task, output = get_task(options.task), Path(options.output)
    known = {json.loads(line)["policy"] for line in output.read_text().splitlines()} if output.exists() else set()
    corrector = load_corrector(options.corrector)
    corrector = corrector.select(0) if corrector.num_seeds > 1 else corrector
    data = get_task(task.corrected_by).transitions()
    found = candidates(corrector, default_coefficients(task.name, "robust"))
    reference = Reference(corrector, data, found["none"], ROWS)
    for name, policy in policies(options.policies, task):
        if name in known:
            continue
        started = time.monotonic()
        arms = {key: CorrectedPolicy(policy, corrector, c) if key != "none" else policy for key, c in found.items()}
        returns = {key: rollout(arm, task, options.episodes, 0).returns.tolist() for key, arm in arms.items()}
        line = {"task": task.name, "policy": name, "returns": returns}
        line["data_mean"] = float(data.episode_returns(whole_only=True).mean())
        line["measures"] = asdict(audit(policy, reference, found["none"]).measures)
        with output.open("a") as file:
            file.write(json.dumps(line) + "\n")
        means = ", ".join(f"{key} {np.mean(values):.0f}" for key, values in returns.items())
        print(f"{task.name} {name}: {means} ({time.monotonic() - started:.0f} s)", flush=True)


def judge(line):
    """What each rule chooses, and the gain and its interval for every candidate."""
    task, returns = get_task(line["task"]), {k: torch.tensor(v).double() for k, v in line["returns"].items()}
    scale = 100 / (task.score_max - task.score_min) if task.score_max is not None else 1.0
    gaps = {key: bootstrap_difference(values, returns["none"]) for key, values in returns.items() if key != "none"}
    gains = {"none": (0.0, False, False)}
    gains |= {key: (gap.estimate * scale, gap.high < 0, gap.low > 0) for key, gap in gaps.items()}
    other = "" if task.corrected_by == task.name else task.corrected_by
    ten = returns["none"].reshape(-1)[:10].numpy()
    measures = Measures(**line["measures"])
    restoring = "recommended" if "recommended" in returns else "ann3"
    chosen = {
        "none": "none",
        "always": restoring,
        "data": data_rule(measures, returns, other)[0],
        "returns": "none" if other else return_rule(Returns(ten, line["data_mean"]), returns, measures)[0],
        "oracle": max(gains, key=lambda key: gains[key][0]),
    }
    return chosen, gains, returns["none"].mean().item()


def table(options):
    """Every pair, then the sums over those that the thresholds were and were not fitted on."""
    lines = [json.loads(line) for path in options.files for line in Path(path).read_text().splitlines()]
    judged = [(line, *judge(line)) for line in lines]
    rules = ("always", "data", "returns", "oracle")
    print("| data | policy | r, rho, f99 | none | " + " | ".join(rules) + " |\n|" + "---|" * (len(rules) + 4))
    for line, chosen, gains, base in judged:
        task, m = get_task(line["task"]), line["measures"]
        score = float(task.normalized_score(base))
        cells = (f"{chosen[rule]} {gains[chosen[rule]][0]:+.1f}{'!' * gains[chosen[rule]][1]}" for rule in rules)
        numbers = f"{m['r']:.2f}, {m['rho']:.2f}, {m['f99']:.3f}"
        print(f"| {line['task']} | {line['policy']} | {numbers} | {score:.1f} | {' | '.join(cells)} |")
    groups = {task: [j for j in judged if j[0]["task"] == task] for task in dict.fromkeys(j[0]["task"] for j in judged)}
    robots = [j for j in judged if get_task(j[0]["task"]).score_max is not None]  # returns of others have other units
    groups["fitted on"] = [j for j in robots if j[0]["task"] in options.fitted]
    groups["not fitted on"] = [j for j in robots if j[0]["task"] not in options.fitted]
    print("\n| pairs | | " + " | ".join(rules) + " | data / returns |\n|" + "---|" * (len(rules) + 3))
    for name, group in groups.items():
        if not group:
            continue
        mean = {rule: np.mean([gains[chosen[rule]][0] for _, chosen, gains, _ in group]) for rule in rules}
        counts = {
            rule: [sum(gains[chosen[rule]][k] for _, chosen, gains, _ in group) for k in (1, 2)] for rule in rules
        }
        cells = (f"{mean[rule]:+.1f} ({counts[rule][0]} harmed, {counts[rule][1]} improved)" for rule in rules)
        share = f"{mean['data'] / mean['returns']:.0%}" if mean["returns"] else ""
        print(f"| {name} | {len(group)} | {' | '.join(cells)} | {share} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    for name in ("task", "corrector", "policies", "output"):
        one.add_argument(f"--{name}", required=True)
    one.add_argument("--episodes", type=int, default=24)
    one.set_defaults(run=measure)
    two = commands.add_parser("table")
    two.add_argument("files", nargs="+")
    two.add_argument("--fitted", nargs="*", default=["hopper-medium", "walker2d-medium"])
    two.set_defaults(run=table)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.run(options)


if __name__ == "__main__":
    main()
