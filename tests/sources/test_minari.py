"""Minari data sets are read in bulk exactly as Minari itself reads them."""

import json
import warnings

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import load_transitions, locate, store
from cdsa_lightning.sources import minari as scheme

FORMATS = ["hdf5", "arrow", "parquet"]


@pytest.fixture
def no_network(monkeypatch):
    def fail(dataset_id):
        raise ConnectionError("no network")

    monkeypatch.setattr(minari, "download_dataset", fail)


@pytest.mark.parametrize("data_format", FORMATS)
def test_bulk_reading_equals_minaris_own_iterator(write, data_format):
    write(data_format=data_format)
    data = load_transitions("minari:cdsa/test-v0")
    theirs = list(minari.load_dataset("cdsa/test-v0").iterate_episodes())
    assert np.array_equal(data.obs, np.concatenate([e.observations[:-1] for e in theirs]))
    assert np.array_equal(data.next_obs, np.concatenate([e.observations[1:] for e in theirs]))
    assert np.array_equal(data.action, np.concatenate([e.actions for e in theirs]))
    assert np.array_equal(data.reward, np.concatenate([e.rewards for e in theirs]))
    assert np.array_equal(data.terminated, np.concatenate([e.terminations for e in theirs]))
    assert data.provenance == "regenerated"
    assert data.source == "minari:cdsa/test-v0"


@pytest.mark.parametrize("data_format", FORMATS)
def test_episodes_are_numbered_and_only_terminations_end_the_world(write, episodes, data_format):
    write(data_format=data_format)
    data = load_transitions("minari:cdsa/test-v0")
    assert data.episode.tolist() == [0] * 5 + [1] + [2] * 4 + [3] * 2
    assert np.flatnonzero(data.terminated).tolist() == [4, 11]
    assert np.allclose(data.episode_returns(), [e.reward.sum() for e in episodes])


def test_all_formats_hold_the_same_data(write):
    prints = set()
    for data_format in FORMATS:
        write(f"cdsa/{data_format}-v0", data_format)
        prints.add(load_transitions(f"minari:cdsa/{data_format}-v0").fingerprint)
    assert len(prints) == 1


def by_others(path):
    """The data set as others write theirs: it says nothing about the digest of its files."""
    facts = json.loads((path / "data" / "metadata.json").read_text())
    del facts[store.DIGEST]
    (path / "data" / "metadata.json").write_text(json.dumps(facts))
    return path


def test_an_episode_with_only_t_observations_loses_its_last_row(write):
    path = by_others(write()) / "data" / "main_data.hdf5"
    with h5py.File(path, "a") as file:
        obs = file["episode_0/observations"][:-1]
        del file["episode_0/observations"]
        file["episode_0"].create_dataset("observations", data=obs)
    data = load_transitions("minari:cdsa/test-v0")
    assert len(data) == 11
    assert np.array_equal(data.next_obs[:4], obs[1:])
    assert data.episode.tolist() == [0] * 4 + [1] + [2] * 4 + [3] * 2


def test_double_precision_data_are_read_as_float32():
    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    obs = np.arange(8, dtype=np.float64).reshape(4, 2)
    for data_format in ("hdf5", "arrow"):
        _create(f"cdsa/{data_format}-v0", obs, space, data_format)
        data = load_transitions(f"minari:cdsa/{data_format}-v0")
        assert data.obs.dtype == np.float32
        assert np.array_equal(data.obs, obs[:-1])
        assert data.provenance == "minari"


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_dictionary_observations_are_joined_only_where_the_source_says_so(data_format):
    space = gymnasium.spaces.Dict(
        {
            "achieved_goal": gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64),
            "observation": gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64),
        }
    )
    parts = {"achieved_goal": np.ones((4, 2)), "observation": np.arange(12.0).reshape(4, 3)}
    _create("cdsa/maze-v0", parts, space, data_format)
    with pytest.raises(InputError, match=r"dictionary of achieved_goal, observation.*\?obs="):
        load_transitions("minari:cdsa/maze-v0")
    data = load_transitions("minari:cdsa/maze-v0?obs=achieved_goal,observation:2")
    assert np.array_equal(data.obs, np.concatenate([parts["achieved_goal"], parts["observation"][:, :2]], axis=1)[:-1])
    assert np.array_equal(data.next_obs[:-1], data.obs[1:])
    with pytest.raises(InputError, match="no observation entry 'goal'"):
        load_transitions("minari:cdsa/maze-v0?obs=goal")


def test_discrete_actions_are_refused():
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    _create("cdsa/d-v0", np.zeros((4, 2), np.float32), box, "hdf5", gymnasium.spaces.Discrete(3), np.zeros(3, np.int64))
    with pytest.raises(InputError, match="continuous"):
        load_transitions("minari:cdsa/d-v0")


def test_missing_data_name_the_local_ones_and_the_remedy(write, no_network):
    write()
    with pytest.raises(InputError, match=r"cdsa/nothing-v0.*no network.*cdsa/test-v0.*cdsa datasets"):
        load_transitions("minari:cdsa/nothing-v0")
    assert locate("minari:cdsa/nothing-v0") is None
    assert locate("minari:cdsa/test-v0") == store.root() / "cdsa/test-v0"


def test_a_malformed_id_is_refused_before_any_download(no_network):
    with pytest.raises(InputError, match="no data set id"):
        load_transitions("minari:../../etc/passwd")


def test_a_truncated_hdf5_file_is_one_clear_error(write):
    path = write() / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged or incomplete"):
        load_transitions("minari:cdsa/test-v0")


@pytest.mark.parametrize("damage", ["truncate", "remove", "fewer"])
def test_a_damaged_arrow_folder_is_one_clear_error(write, damage):
    data = write(data_format="arrow") / "data"
    file = data / "2" / "part-0.arrow"
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "remove":
        file.unlink()
    else:
        file.write_bytes((data / "1" / "part-0.arrow").read_bytes())
    with pytest.raises(InputError, match="damaged or incomplete|incomplete"):
        load_transitions("minari:cdsa/test-v0")


@pytest.mark.parametrize("change", [{"total_steps": 11}, {"total_steps": 13}, {"total_episodes": 5}])
def test_metadata_that_disagree_with_the_data_are_an_error(write, change):
    path = write() / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="incomplete"):
        load_transitions("minari:cdsa/test-v0")


def test_unreadable_metadata_are_an_error(write):
    (write() / "data" / "metadata.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        load_transitions("minari:cdsa/test-v0")


def test_an_array_of_the_wrong_length_never_reaches_memory(write):
    path = write() / "data" / "main_data.hdf5"
    with h5py.File(path, "a") as file:
        del file["episode_1/actions"]
        file["episode_1"].create_dataset("actions", data=np.zeros((5000, 2), np.float32))
    with pytest.raises(InputError, match=r"shape \(5000, 2\)"):
        load_transitions("minari:cdsa/test-v0")


def test_nan_in_the_data_is_named(write):
    with h5py.File(by_others(write()) / "data" / "main_data.hdf5", "a") as file:
        file["episode_2/rewards"][1] = np.nan
    with pytest.raises(InputError, match="reward holds 1 values"):
        load_transitions("minari:cdsa/test-v0")


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_a_flipped_bit_in_a_number_is_noticed(write, episodes, data_format):
    folder, number = write(data_format=data_format) / "data", episodes[0].obs[2, 1].tobytes()
    path = next(file for file in sorted(folder.rglob("*")) if file.is_file() and number in file.read_bytes())
    content = bytearray(path.read_bytes())
    content[content.index(number)] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged: its files are not those that were written"):
        load_transitions("minari:cdsa/test-v0")


@pytest.mark.parametrize("source", ["hopper", "minari:", "file:x"])
def test_a_source_that_is_not_scheme_and_name_is_explained(source):
    with pytest.raises(InputError, match="minari"):
        load_transitions(source)


def test_writing_never_replaces_by_accident_and_replaces_whole_on_request(write, episodes, minari_root):
    write()
    with pytest.raises(InputError, match="exists already.*--overwrite"):
        write()
    before = load_transitions("minari:cdsa/test-v0").fingerprint
    episodes.pop()
    write(overwrite=True)
    assert load_transitions("minari:cdsa/test-v0").fingerprint != before
    assert [path.name for path in (minari_root / "cdsa").iterdir() if path.name.startswith(".replaced")] == []


def test_a_write_that_fails_leaves_the_store_as_it_was(write, minari_root):
    write()
    before = load_transitions("minari:cdsa/test-v0").fingerprint

    def broken():
        raise OSError(28, "No space left on device")
        yield

    bound = np.ones(2, np.float32)
    for dataset_id in ("cdsa/test-v0", "cdsa/new-v0"):
        with pytest.raises(OSError, match="No space"):
            store.write_dataset(dataset_id, broken(), -bound, bound, {}, obs_dim=3, overwrite=True)
    assert store.stored_ids() == ["cdsa/test-v0"]
    assert list(minari.list_local_datasets()) == ["cdsa/test-v0"]
    assert load_transitions("minari:cdsa/test-v0").fingerprint == before


def test_reading_needs_no_minari_library():
    assert not hasattr(scheme, "minari")


def _create(dataset_id, obs, space, data_format, action_space=None, actions=None):
    steps = 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            dataset_id,
            [
                EpisodeBuffer(
                    id=0,
                    observations=obs,
                    actions=np.zeros((steps, 1), np.float32) if actions is None else actions,
                    rewards=np.zeros(steps),
                    terminations=np.zeros(steps, bool),
                    truncations=np.array([False, False, True]),
                )
            ],
            observation_space=space,
            action_space=action_space or gymnasium.spaces.Box(-1, 1, (1,), np.float32),
            data_format=data_format,
        )
