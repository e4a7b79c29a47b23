"""`cdsa benchmark`: a grid of tasks, baselines, corrections and seeds, each part made once; then tables and pictures.

A second run makes what is missing alone. What fails is reported at the end and stops nothing else. Here are the
options, apart from heavy imports, since jsonargparse resolves every name beside them; grids.py does the work.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdsa_lightning.commands.explain import STRICT, parse
from cdsa_lightning.errors import InputError, unknown_name

__all__ = ["BenchmarkOptions", "main"]

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class BenchmarkOptions:
    """Run a grid of tasks, baselines, corrections and seeds, and compare it with the paper's Table 1.

    Args:
        config: The grid, for instance configs/risky.yaml.
        output: Where everything is kept; a second run makes what is missing there. With --executor ray a folder that
            all machines share, or a URL that fsspec opens, for instance s3://bucket/folder.
        workers: Processes of --executor local, with one thread each; 2 where nothing is said.
        dry_run: Show the plan with an estimate of time, and make nothing.
        executor: local for processes of this machine, ray for the machines of a Ray cluster.
        address: HOST:PORT of the Ray cluster, or auto; without it the one of RAY_ADDRESS, else one that runs on this
            machine, else one of this machine alone.
        gpus_per_training: GPUs that each training asks Ray for, for instance 0.25 for four trainings a GPU.
    """

    config: str
    output: str = "runs/benchmark"
    workers: int | None = None
    dry_run: bool = False
    executor: str = "local"
    address: str | None = None
    gpus_per_training: float = 0.0


def main(argv: list[str]) -> int:
    """Parse `argv` and run the grid; 0 where every cell is done, 1 where some failed or are blocked."""
    from jsonargparse import ArgumentParser

    about = "Run a grid of tasks, baselines, corrections and seeds, and compare it with the paper's Table 1."
    parser = ArgumentParser(prog="cdsa benchmark", description=about, **STRICT)
    parser.add_class_arguments(BenchmarkOptions, as_group=False)
    words = zip(argv, [*argv, "--"][1:], strict=True)
    spelled = [f"{w}=true" if w == "--dry_run" and following.startswith("-") else w for w, following in words]
    options = BenchmarkOptions(**vars(parse(parser, spelled)))
    _check(options)
    from cdsa_lightning.commands.grids import benchmark

    return benchmark(options)


def _check(options: BenchmarkOptions) -> None:
    if options.executor not in EXECUTORS:
        raise unknown_name("executor", options.executor, EXECUTORS)
    far = options.executor == "ray"
    if options.workers is not None and options.workers < 1:
        raise InputError(f"--workers must be at least 1, got {options.workers}.")
    if not 0 <= options.gpus_per_training <= 64:
        raise InputError(f"--gpus_per_training must lie between 0 and 64, got {options.gpus_per_training}.")
    if far and options.workers is not None:
        raise InputError("--workers is for --executor local; a Ray cluster has as many as it has CPUs. Leave it out.")
    if not far and (options.address is not None or options.gpus_per_training):
        name = "--gpus_per_training" if options.address is None else "--address"
        raise InputError(f"{name} is for --executor ray. Add that, or leave {name} out.")
    if not far and "://" in options.output:
        raise InputError(
            f"--output {options.output} is a URL, which --executor ray takes; --executor local needs a folder."
        )
