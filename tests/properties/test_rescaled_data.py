"""Data in other units, x -> offset + scale x in every entry: the robust preset fits the same correction in these units.

Where the scales are powers of two and nothing is shifted, bit by bit. Otherwise single precision rounds the data
anew: to 2^-24 of a deviation where they lie around zero, to a hundred times that where they lie a hundred deviations
away. Training carries it on.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.training import CDSAModule
from training_data import train, write_npz

ROBUST = Coefficients(k1=1.0, k2=0.5, units="sigma2", a2="residual", clip="every_step", gate=0.3, num_steps=2)
SEEDS, STEPS = (0, 1), 200


def fitted(folder, npz):
    torch.manual_seed(hash(str(folder)) % 1000)  # the global generator is nobody's seed
    train(CDSAModule("robust", seeds=SEEDS), npz, STEPS, folder)
    return load_corrector(folder / "corrector.safetensors")


def rescaled(folder, npz, obs, action):
    """The same data with observations and actions through (offset, scale) each."""
    arrays = dict(np.load(npz))
    for name, (offset, scale) in (("obs", obs), ("next_obs", obs), ("actions", action)):
        arrays[name] = np.float32(offset + scale * arrays[name].astype(np.float64))
    np.savez(folder / "rescaled.npz", **arrays)
    return folder / "rescaled.npz"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    npz = write_npz(folder / "data.npz")
    return npz, fitted(folder / "first", npz)


def corrected(corrector, obs, action):
    return corrector(torch.from_numpy(obs).float(), torch.from_numpy(action).float(), ROBUST).double().numpy()


def difference(plain, folder, obs_units, action_units):
    """The largest difference of the corrected actions, in the first data's units, and the largest correction there."""
    npz, first = plain
    second = fitted(folder, rescaled(folder, npz, obs_units, action_units))
    offset, scale = action_units
    second.low, second.high = offset + scale * first.low, offset + scale * first.high  # a task's bounds do not move
    rng = np.random.default_rng(5)
    obs, action = rng.uniform(-0.2, 1.2, (2, 300, 4)), np.clip(rng.normal(0, 0.1, (2, 300, 2)), -0.1, 0.1)
    obs, action = np.float32(obs).astype(np.float64), np.float32(action).astype(np.float64)
    expected = corrected(first, obs, action)
    found = corrected(second, obs_units[0] + obs_units[1] * obs, offset + scale * action)
    return np.abs((found - offset) / scale - expected).max(), np.abs(expected - action).max()


def test_powers_of_two_change_no_bit(plain, tmp_path):
    error, moved = difference(plain, tmp_path, (0.0, np.array([8.0, 0.25, 1024.0, 2.0**-10])), (0.0, 0.25))
    assert error == 0 and moved > 0.01


@pytest.mark.parametrize(("deviations", "share"), [(1, 1e-5), (100, 0.02)])
def test_other_units_change_what_single_precision_rounds(plain, tmp_path, deviations, share):
    scale, std = np.array([3.7, 0.11, 900.0, 0.013]), 12**-0.5  # of uniform numbers
    error, moved = difference(plain, tmp_path, (deviations * std * scale, scale), (0.2 * deviations * std * 0.3, 0.3))
    assert error < share * moved


def test_a_seed_fits_the_same_corrector_again(plain, tmp_path):
    npz, first = plain
    second = fitted(tmp_path, npz)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
