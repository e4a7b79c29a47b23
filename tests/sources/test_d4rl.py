"""D4RL files are converted once; a download appears whole or not at all."""

import functools
import http.server
import threading

import h5py
import minari
import numpy as np
import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import d4rl, load_transitions, locate


def make(path, n=8, terminals=(3,), timeouts=(7,), next_obs=True, **change):
    obs = np.arange(2.0 * n, dtype=np.float32).reshape(n, 2)
    flags = {"terminals": np.zeros(n, bool), "timeouts": np.zeros(n, bool)}
    flags["terminals"][list(terminals)] = True
    flags["timeouts"][list(timeouts)] = True
    arrays = dict(observations=obs, actions=np.ones((n, 1), np.float32) / 2, rewards=np.ones(n, np.float32), **flags)
    if next_obs:
        arrays["next_observations"] = obs + 2
        ends = np.flatnonzero(flags["terminals"] | flags["timeouts"])
        arrays["next_observations"][ends] = -1
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in (arrays | change).items():
            if value is not None:
                file[key] = value
        file["infos/qpos"] = np.zeros((n, 3))
    return path


def test_a_file_is_converted_once_into_the_minari_store(tmp_path):
    path = make(tmp_path / "mine.hdf5")
    first = load_transitions(f"d4rl:{path}")
    assert first.provenance == "d4rl-v2"
    assert first.episode.tolist() == [0] * 4 + [1] * 4
    assert np.flatnonzero(first.terminated).tolist() == [3]
    assert first.next_obs[[3, 7]].tolist() == [[-1, -1], [-1, -1]]
    [dataset_id] = minari.list_local_datasets()
    written = (tmp_path / "store" / dataset_id / "data" / "main_data.hdf5").stat().st_mtime_ns
    assert load_transitions(f"d4rl:{path}").fingerprint == first.fingerprint
    assert (tmp_path / "store" / dataset_id / "data" / "main_data.hdf5").stat().st_mtime_ns == written
    assert minari.load_dataset(dataset_id).total_steps == 8


def test_a_file_that_changed_is_converted_anew(tmp_path):
    path = make(tmp_path / "mine.hdf5")
    first = load_transitions(f"d4rl:{path}")
    make(path, n=12)
    assert len(load_transitions(f"d4rl:{path}")) == 12 != len(first)


def test_without_next_observations_a_timeout_loses_its_row_and_a_terminal_keeps_itself(tmp_path):
    data = load_transitions(f"d4rl:{make(tmp_path / 'maze.hdf5', next_obs=False)}")
    assert data.obs[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert data.next_obs[:, 0].tolist() == [2, 4, 6, 6, 10, 12, 14]


def test_without_any_mark_of_episodes_the_file_is_refused(tmp_path):
    path = make(tmp_path / "x.hdf5", next_obs=False)
    with h5py.File(path, "a") as file:
        del file["timeouts"]
    with pytest.raises(InputError, match="nothing tells where episodes end"):
        load_transitions(f"d4rl:{path}")


def test_a_named_file_in_d4rls_folder_is_found(tmp_path):
    assert locate("d4rl:hopper-medium-v2") is None
    path = make(tmp_path / "d4rl" / "hopper_medium-v2.hdf5")
    assert locate("d4rl:hopper-medium-v2") == path
    assert len(load_transitions("d4rl:hopper-medium-v2")) == 8
    path.unlink()
    assert locate("d4rl:hopper-medium-v2") == tmp_path / "store" / "d4rl" / "hopper-medium-v2"
    assert load_transitions("d4rl:hopper-medium-v2").source == "minari:d4rl/hopper-medium-v2"


def test_unknown_names_and_missing_files_list_the_alternatives():
    with pytest.raises(InputError, match="Did you mean 'hopper-medium-v2'"):
        load_transitions("d4rl:hoper-medium-v2")
    with pytest.raises(InputError, match="There is no file.*antmaze-umaze-v2"):
        load_transitions("d4rl:somewhere/x.hdf5")


def test_a_file_that_is_not_d4rls_is_named_with_what_it_lacks(tmp_path):
    path = make(tmp_path / "x.hdf5")
    with h5py.File(path, "a") as file:
        del file["rewards"]
    with pytest.raises(InputError, match="lacks rewards.*Found: actions"):
        load_transitions(f"d4rl:{path}")


def test_a_truncated_file_nan_and_other_lengths_are_errors(tmp_path):
    path = make(tmp_path / "x.hdf5")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        load_transitions(f"d4rl:{path}")
    path.unlink()
    with pytest.raises(InputError, match="NaN or infinite"):
        load_transitions(f"d4rl:{make(path, rewards=np.full(8, np.nan, np.float32))}")
    with pytest.raises(InputError, match="action has shape"):
        load_transitions(f"d4rl:{make(path, actions=np.ones((7, 1), np.float32))}")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """D4RL's server, here: files under tmp_path/www; `cut` makes it announce more bytes than it sends."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        cut = False

        def send_header(self, key, value):
            super().send_header(key, str(int(value) + 100) if key == "Content-Length" and self.cut else value)

        def log_message(self, *_):
            """Quiet."""

    folder = tmp_path / "www"
    folder.mkdir()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.setattr(d4rl, "URL", f"http://127.0.0.1:{httpd.server_port}")
    yield folder, Handler
    httpd.shutdown()
    httpd.server_close()


def test_a_name_is_downloaded_converted_and_never_fetched_again(server, tmp_path):
    source = make(server[0] / "gym_mujoco_v2" / "hopper_medium_replay-v2.hdf5")
    first = load_transitions("d4rl:hopper-medium-replay-v2")
    source.unlink()
    assert load_transitions("d4rl:hopper-medium-replay-v2").fingerprint == first.fingerprint
    assert [path.name for path in (tmp_path / "d4rl").iterdir()] == ["hopper_medium_replay-v2.hdf5"]


@pytest.mark.parametrize("fault", ["missing", "cut", "not hdf5", "no d4rl file"])
def test_a_failed_download_leaves_nothing_behind(server, tmp_path, fault):
    folder, handler = server
    source = folder / "ant_maze_v2" / "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5"
    if fault != "missing":
        make(source)
    if fault == "cut":
        handler.cut = True
    if fault == "not hdf5":
        source.write_text("<html>moved</html>")
    if fault == "no d4rl file":
        with h5py.File(source, "a") as file:
            del file["terminals"]
    with pytest.raises(InputError):
        load_transitions("d4rl:antmaze-umaze-v2")
    assert list((tmp_path / "d4rl").iterdir()) == []
    assert locate("d4rl:antmaze-umaze-v2") is None
