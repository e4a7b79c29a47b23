"""Small valid inputs of every reader, and what reads them."""

import functools
import json
import os
import shutil

import numpy as np

from baselines import checkpoints
from dashboard_files import leave_evaluation, leave_fit, report_of
from evaluation_files import write_corrector
from training_data import write_npz

TASK = "risky-pointmass"


@functools.cache
def task():
    return checkpoints.box_task(5, (-2.0, -0.5), (1.0, 0.5))


@functools.cache
def known_task():
    from cdsa_lightning.tasks import get_task

    return get_task(TASK)


def _made(name):
    return lambda folder: checkpoints.CHECKPOINTS[name](folder, task())


def _corrector(folder):
    write_corrector(folder / "corrector.safetensors")


def _read_corrector(path):
    from cdsa_lightning.core.artifact import load_corrector
    from cdsa_lightning.core.corrector import CorrectedPolicy
    from cdsa_lightning.core.policy import FunctionPolicy

    corrector = load_corrector(path)
    policy = FunctionPolicy(lambda obs: obs[:, :2] * 0, corrector.low.tolist(), corrector.high.tolist())
    if corrector.action_dim == 2 and corrector.num_seeds == 2:
        CorrectedPolicy(policy, corrector)


def _run_numpy(path):
    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.runtime import NumpyCorrector

    for seed in (0, "mean"):
        corrector = NumpyCorrector(path, Coefficients(k1=0.5, k2=0.5, units="sigma2", num_steps=2), seed)
        corrector(np.zeros((3, corrector.obs_dim)), np.zeros((3, corrector.action_dim)))
    NumpyCorrector(path)


def _iql(folder):
    checkpoints.CHECKPOINTS["iql"](folder, known_task())


def _por_run(folder):
    checkpoints.CHECKPOINTS["por"](folder, known_task())


def _npz(folder):
    write_npz(folder / "data.npz", rows=60)


def _d4rl(folder):
    import h5py

    rng, ends = np.random.default_rng(0), np.arange(40) % 10 == 9
    with h5py.File(folder / "data.hdf5", "w") as file:
        file["observations"] = rng.normal(size=(40, 3)).astype(np.float32)
        file.create_dataset("actions", data=np.ones((40, 2), np.float32) / 2, compression="gzip")
        file["rewards"], file["terminals"], file["timeouts"] = np.ones(40, np.float32), ends, ~ends & False
        file.create_dataset("next_observations", data=rng.normal(size=(40, 3)).astype(np.float32), chunks=(7, 3))


def _minari(data_format):
    def make(folder):
        from cdsa_lightning.sources import store
        from cdsa_lightning.sources.transitions import Episode

        rng, bound = np.random.default_rng(0), np.ones(2, np.float32)
        numbers = [(5, True), (1, False), (4, True)]
        episodes = (
            Episode(rng.normal(size=(n + 1, 3)).astype(np.float32), np.zeros((n, 2), np.float32) + 0.1,
                    np.ones(n, np.float32), end, not end) for n, end in numbers)  # fmt: skip
        kept, os.environ["MINARI_DATASETS_PATH"] = os.environ["MINARI_DATASETS_PATH"], str(folder / "store")
        store.write_dataset("a/b-v0", episodes, -bound, bound, {"cdsa": {}}, obs_dim=3,
                            data_format="hdf5" if data_format == "hdf5" else "arrow")  # fmt: skip
        if data_format == "parquet":
            _as_parquet(folder / "store" / "a" / "b-v0" / "data")
        os.environ["MINARI_DATASETS_PATH"] = kept

    return make


def _as_parquet(data):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from cdsa_lightning.sources import store

    for part in list(data.glob("*/part-*")):
        with pa.memory_map(str(part)) as mapped:
            table = pa.ipc.open_file(mapped).read_all()
            pq.write_table(table, part.with_suffix(".parquet"))
        part.unlink()
    facts = json.loads((data / "metadata.json").read_text())
    facts |= {"data_format": "parquet", store.DIGEST: store.data_digest(data)}
    (data / "metadata.json").write_text(json.dumps(facts))


def _read_minari(_):
    from cdsa_lightning.sources import load_transitions

    load_transitions("minari:a/b-v0").episode_returns(whole_only=True)


def _source(scheme):
    def read(path):
        from cdsa_lightning.sources import load_transitions

        load_transitions(f"{scheme}:{path}").episode_returns(whole_only=True)

    return read


def _report(folder):
    arms = {"iql": -40.0, "cdsa(iql)": -10.0}
    kept = leave_evaluation(folder / "x", report_of(TASK, arms, cost=np.full((2, 10), 0.3)), pictures=("field",))
    for file in kept.iterdir():
        shutil.move(file, folder / file.name)
    shutil.rmtree(folder / "x")


def _read_report(path):
    from cdsa_lightning import records

    records.load(path), records.load_about(path)


def _read_evaluation(path):
    from cdsa_lightning.dashboard.evaluations import read_evaluation
    from cdsa_lightning.dashboard.page import page, page_data

    read_evaluation(path)
    page(page_data([path], []))


def _fit(folder):
    leave_fit(folder)


def _read_fit(path):
    from cdsa_lightning.dashboard.fits import read_fit

    read_fit(path)


def _specification(folder):
    panel = {"kind": "bars", "title": "t", "keys": ["a"], "config": []}
    section = {"name": "n", "about": "a", "panels": [panel]}
    (folder / "specification.json").write_text(json.dumps({"project": "p", "name": "n", "sections": [section]}))


def _read_specification(path):
    from cdsa_lightning.dashboard.specification import read_specification

    read_specification(path)


def _coefficients(folder):
    values = {"k1": 0.5, "k2": 0.1, "schedule": [0.7], "num_steps": 2, "units": "sigma2", "gate": 0.5, "max_shift": 1.0}
    (folder / "coefficients.json").write_text(json.dumps({"coefficients": values, "name": "n", "selector": "s"}))


def _read_coefficients(path):
    from cdsa_lightning.tuning.choice import read_choice

    str(read_choice(path).origin)


def _returns(suffix):
    def make(folder):
        values = [1.0, 2.5, -3.0]
        text = {"json": json.dumps({"returns": values}), "txt": "1.0, 2.5\n-3.0"}
        if suffix == "npz":
            np.savez(folder / "returns.npz", returns=np.asarray(values))
        else:
            (folder / f"returns.{suffix}").write_text(text[suffix])

    return make


def _read_returns(path):
    from cdsa_lightning.tuning.returns import read_returns

    read_returns(path)
