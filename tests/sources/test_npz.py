"""npz files: plain arrays only, every slip one clear error."""

import numpy as np
import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import load_transitions, locate


@pytest.fixture
def save(tmp_path):
    def save(compressed=False, **change):
        obs = np.arange(12.0).reshape(6, 2)
        arrays = dict(observations=obs, actions=np.ones((6, 1)), rewards=np.ones(6), next_observations=obs + 2)
        arrays |= dict(terminals=np.zeros(6, bool)) | change
        path = tmp_path / "data.npz"
        arrays = {key: value for key, value in arrays.items() if value is not None}
        (np.savez_compressed if compressed else np.savez)(path, **arrays)
        return path

    return save


def test_both_spellings_of_the_keys_are_read(save):
    path = save()
    first = load_transitions(f"npz:{path}")
    with np.load(path) as archive:
        renamed = dict(
            obs=archive["observations"], next_obs=archive["next_observations"], terminated=archive["terminals"]
        )
    save(observations=None, next_observations=None, terminals=None, **renamed)
    assert load_transitions(f"npz:{path}").fingerprint == first.fingerprint
    assert (first.obs_dim, first.action_dim, len(first), first.provenance) == (2, 1, 6, "npz")


def test_timeouts_end_episodes_without_ending_the_world(save):
    next_obs = np.arange(12.0).reshape(6, 2) + 2
    next_obs[2] = -1
    data = load_transitions(f"npz:{save(timeouts=np.array([0, 0, 1, 0, 0, 1]), next_observations=next_obs)}")
    assert data.episode.tolist() == [0, 0, 0, 1, 1, 1]
    assert not data.terminated.any()


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminals"])
def test_a_missing_key_is_named_with_what_was_found(save, key):
    with pytest.raises(InputError, match=f"{key}.*among "):
        load_transitions(f"npz:{save(**{key: None})}")


def test_pickled_objects_are_never_loaded(save):
    with pytest.raises(InputError, match="cannot be read"):
        load_transitions(f"npz:{save(rewards=np.array([{'a': 1}] * 6, dtype=object))}")


def test_text_is_not_numbers(save):
    with pytest.raises(InputError, match="not numbers"):
        load_transitions(f"npz:{save(rewards=np.array(['a'] * 6))}")


@pytest.mark.parametrize("compressed", [True, False])
def test_a_truncated_file_is_one_clear_error(save, compressed):
    path = save(compressed)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="cannot be read"):
            load_transitions(f"npz:{path}")


def test_a_flipped_byte_is_one_clear_error(save):
    path = save(compressed=True)
    content = bytearray(path.read_bytes())
    content[content.index(b"actions") + 40] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_transitions(f"npz:{path}")


def test_a_missing_file_and_a_bare_array_are_explained(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        load_transitions(f"npz:{tmp_path / 'none.npz'}")
    np.save(tmp_path / "bare.npy", np.zeros(3))
    with pytest.raises(InputError, match="bare array"):
        load_transitions(f"npz:{tmp_path / 'bare.npy'}")
    assert locate(f"npz:{tmp_path / 'none.npz'}") is None


def test_arrays_that_do_not_fit_together_are_named(save):
    with pytest.raises(InputError, match="action has shape"):
        load_transitions(f"npz:{save(actions=np.ones((5, 1)))}")
    with pytest.raises(InputError, match="next_obs has shape"):
        load_transitions(f"npz:{save(next_observations=np.ones((6, 3)))}")
