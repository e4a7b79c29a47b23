"""Trains each algorithm of d3rlpy for a few steps, saves both kinds of files and what it predicts.

    python d3rlpy_reference.py FOLDER

writes FOLDER/<case>/{model.d3, model.pt, params.json, predictions.npz}. It imports nothing of this project, and runs
where d3rlpy can be imported; test_d3rlpy.py makes such a place.
"""

import sys
from pathlib import Path

import d3rlpy
import numpy as np
import torch
from d3rlpy.models.encoders import VectorEncoderFactory
from d3rlpy.preprocessing import MinMaxActionScaler, MinMaxObservationScaler, StandardObservationScaler

OBS, LOW, HIGH = 5, np.array([-0.1, -2.0]), np.array([0.1, 3.0])
STEPS, ROWS = 20, 1000
PLAIN = VectorEncoderFactory(hidden_units=[32, 24], activation="tanh", exclude_last_activation=True)


def norms():
    """All that an encoder may have; 2.1 cannot build a batch norm, and later versions brought the rest."""
    every = {"use_batch_norm": True, "use_layer_norm": True, "dropout_rate": 0.2, "last_activation": "gelu"}
    options = every if "use_layer_norm" in VectorEncoderFactory.__dataclass_fields__ else {"dropout_rate": 0.2}
    return VectorEncoderFactory(hidden_units=[32, 24, 16], activation="swish", **options)


def observations(rows, seed):
    scale, shift = np.array([1, 3, 0.1, 5, 100]), np.array([0, 10, 0, -2, 500])
    return (np.random.default_rng(seed).normal(size=(rows, OBS)) * scale + shift).astype(np.float32)


def dataset(low, high):
    rng, terminals = np.random.default_rng(1), np.zeros(600)
    terminals[99::100] = 1
    actions = rng.uniform(low, high, size=(600, len(low))).astype(np.float32)
    return d3rlpy.dataset.MDPDataset(observations(600, 0), actions, rng.normal(size=600).astype(np.float32), terminals)


def cases():
    """Name -> (configuration, whether actions are scaled)."""
    for name in ("IQL", "CQL", "TD3PlusBC", "SAC", "BC", "TD3", "DDPG", "AWAC", "CalQL", "ReBRAC", "PRDC"):
        make = getattr(d3rlpy.algos, f"{name}Config", None)
        if make is None:  # not yet in this version
            continue
        # Deterministic actors saturate at once if they climb their fresh critics quickly.
        rate = 3e-4 if name in ("TD3PlusBC", "TD3", "DDPG", "ReBRAC", "PRDC") else 1e-2
        step = {"learning_rate" if name == "BC" else "actor_learning_rate": rate}
        scaled = {"observation_scaler": StandardObservationScaler(), "action_scaler": MinMaxActionScaler()}
        yield name, make(batch_size=32, **scaled, **step), True
        if name in ("IQL", "CQL", "TD3PlusBC", "SAC", "BC"):
            encoder = "encoder_factory" if name == "BC" else "actor_encoder_factory"
            yield f"{name}-min_max", make(batch_size=32, observation_scaler=MinMaxObservationScaler(), **step), False
            yield f"{name}-plain", make(batch_size=32, **{encoder: PLAIN}, **scaled, **step), True
            yield f"{name}-norms", make(batch_size=32, **{encoder: norms()}, **scaled, **step), True
    stochastic = {"policy_type": "stochastic", "learning_rate": 1e-2}
    yield "BC-stochastic", d3rlpy.algos.BCConfig(batch_size=32, **scaled, **stochastic), True


def main(folder):
    for name, config, scaled in cases():
        torch.manual_seed(0)
        algo = config.create()
        low, high = (LOW, HIGH) if scaled else (-np.ones(2), np.ones(2))
        algo.fit(
            dataset(low, high),
            n_steps=STEPS,
            n_steps_per_epoch=STEPS,
            show_progress=False,
            experiment_name=name,
            with_timestamp=False,
            logger_adapter=d3rlpy.logging.FileAdapterFactory(str(folder)),
        )
        algo.save(str(folder / name / "model.d3"))
        algo.save_model(str(folder / name / "model.pt"))
        obs = observations(ROWS, 2)
        np.savez(folder / name / "predictions.npz", obs=obs, action=algo.predict(obs), low=low, high=high)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
