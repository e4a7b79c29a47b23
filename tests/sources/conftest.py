"""A Minari store of its own for every test."""

import numpy as np
import pytest

from cdsa_lightning.sources import store
from cdsa_lightning.sources.transitions import Episode


@pytest.fixture(autouse=True)
def minari_root(tmp_path, monkeypatch):
    root = tmp_path / "store"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    return root


@pytest.fixture
def episodes():
    rng = np.random.default_rng(0)
    return [
        Episode(
            rng.normal(size=(steps + 1, 3)).astype(np.float32),
            rng.uniform(-1, 1, size=(steps, 2)).astype(np.float32),
            rng.normal(size=steps).astype(np.float32),
            ended,
            not ended,
        )
        for steps, ended in ((5, True), (1, False), (4, False), (2, True))
    ]


@pytest.fixture
def write(episodes):
    def write(dataset_id="cdsa/test-v0", data_format="hdf5", **kwargs):
        bound = np.ones(2, np.float32)
        facts = {"cdsa": {"behaviour": "test"}}
        return store.write_dataset(
            dataset_id, iter(episodes), -bound, bound, facts, obs_dim=3, data_format=data_format, **kwargs
        )

    return write
