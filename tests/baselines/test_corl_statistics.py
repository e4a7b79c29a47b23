"""What CORL's checkpoints lack: the statistics of the observations they were trained on, and the trap without them."""

import dataclasses
import logging

import h5py
import numpy as np
import pytest

from cdsa_baselines.foreign._statistics import best_rows, computed_moments, qlearning_rows
from cdsa_baselines.foreign.corl import inspect, load
from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import load_transitions
from cdsa_lightning.tasks import get_task

from .checkpoints import box_task
from .test_corl import LIMIT, A, S, actions, forward, observations, write


@pytest.fixture(autouse=True)
def no_data_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))


def rows(n=61, terminals=(9, 19, 60), timeouts=(39,), seed=0):
    """Rows as D4RL stores them, with true next observations; the last one is terminal."""
    rng = np.random.default_rng(seed)
    flags = {name: np.isin(np.arange(n), at) for name, at in (("terminals", terminals), ("timeouts", timeouts))}
    obs = rng.normal(size=S) + rng.gamma(2, size=(n, S)) * np.linspace(0.1, 3, S)
    following = np.concatenate([obs[1:], obs[:1]])
    following[flags["terminals"] | flags["timeouts"]] = rng.normal(size=S)
    return {
        "observations": obs.astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, A)).astype(np.float32),
        "rewards": rng.normal(size=n).astype(np.float32),
        "next_observations": following.astype(np.float32),
        **flags,
    }


def kept_by_qlearning_dataset(rows):
    """D4RL's rule, row by row: the row before a time limit and the last one have no next observation."""
    kept = []
    for row in range(len(rows["rewards"]) - 1):
        if not rows["timeouts"][row]:
            kept.append(row)
    return kept


@pytest.fixture
def task(tmp_path):
    """A task whose only data is a small file."""
    np.savez(tmp_path / "data.npz", **rows())
    source = f"npz:{tmp_path / 'data.npz'}"
    return dataclasses.replace(box_task(S, [-LIMIT] * A, [LIMIT] * A), name="mine", sources=(source,))


@pytest.mark.parametrize("algorithm", ["IQL", "TD3+BC", "CQL", "AWAC"])
def test_missing_statistics_are_those_of_the_rows_that_d4rl_hands_out(tmp_path, task, algorithm):
    path, layers = write(tmp_path, algorithm, stats=False)
    data = rows()
    seen = data["observations"][kept_by_qlearning_dataset(data)].astype(np.float64)
    obs = observations()
    expected = forward(layers, (obs - seen.mean(0)) / (seen.std(0) + 1e-3), squashed=algorithm != "AWAC")
    np.testing.assert_allclose(actions(path, task, obs), expected, atol=2e-5)


def test_without_them_the_policy_would_act_otherwise(tmp_path, task):
    path, _ = write(tmp_path, "IQL", {"normalize": True}, stats=False)
    obs = rows()["observations"]
    computed = actions(path, task, obs)
    (tmp_path / "config.yaml").write_text("normalize: false")
    raw = actions(path, task, obs)
    assert np.abs(computed - raw).max() > 0.5
    assert load(path, task).obs_std.tolist() == [1.0] * S


def test_the_log_says_where_computed_statistics_come_from(tmp_path, task, caplog):
    path, _ = write(tmp_path, "IQL", stats=False)
    with caplog.at_level(logging.WARNING):
        load(path, task)
    [text] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "checkpoint_9.pt' (CORL IQL) lacks its observation statistics: computed from 59 observations" in text
    assert f"of npz:{tmp_path / 'data.npz'} (provenance npz: not D4RL's own rows" in text


def test_statistics_beside_the_checkpoint_are_taken_without_a_word(tmp_path, task, caplog):
    path, _ = write(tmp_path, "IQL", stats=True)
    policy = load(path, dataclasses.replace(task, sources=()))
    np.testing.assert_allclose(policy.obs_mean.numpy(), np.linspace(-1, 1, S), atol=1e-6)
    assert not caplog.records


def test_the_data_of_training_count_not_those_of_the_task(tmp_path, task):
    path, _ = write(tmp_path, "IQL", {"env": "hopper-medium-v2"}, stats=False)
    with pytest.raises(InputError, match="No data for the task 'hopper-medium'"):
        load(path, task)
    own = load(path, dataclasses.replace(task, name="hopper-medium"))
    assert own.obs_mean.abs().max() > 0


def test_without_data_the_error_tells_how_to_get_them(tmp_path):
    path, _ = write(tmp_path, "TD3+BC", {"env": "hopper-medium-v2"}, stats=False, obs_dim=11, action_dim=3)
    with pytest.raises(InputError) as error:
        load(path, get_task("hopper-medium"))
    for part in (
        "mean and std are missing",
        "cdsa datasets --download hopper-medium",
        "cdsa collect --task hopper-medium",
        "Or store them as obs_mean and obs_std in",
        "checkpoint_9.stats.npz",
    ):
        assert part in str(error.value)


def test_a_task_without_data_and_training_data_unknown_here_are_told(tmp_path, task):
    path, _ = write(tmp_path, "IQL", stats=False)
    with pytest.raises(InputError, match="'mine' has no data set of its own.*checkpoint_9.stats.npz"):
        load(path, dataclasses.replace(task, sources=()))
    (tmp_path / "config.yaml").write_text("env: pen-human-v1")
    with pytest.raises(InputError, match="trained on 'pen-human-v1', which belongs to no task.*checkpoint_9.stats.npz"):
        load(path, task)


def test_data_of_other_observations_give_no_statistics(tmp_path, task):
    with pytest.raises(InputError, match="net.pt sees 7 observation entries; npz:.* has 59 usable rows of 5, .*x.npz"):
        computed_moments("net.pt", tmp_path / "x.npz", task, obs_dim=7)


def test_of_d4rls_own_files_exactly_the_rows_of_its_function_count(tmp_path):
    data = rows(n=500, terminals=(9, 300, 301, 480), timeouts=(39, 139, 239, 499))
    with h5py.File(tmp_path / "hopper_medium-v2.hdf5", "w") as file:
        for key, values in data.items():
            file[key] = values
    read = load_transitions(f"d4rl:{tmp_path / 'hopper_medium-v2.hdf5'}")
    assert read.provenance == "d4rl-v2"
    expected = data["observations"][kept_by_qlearning_dataset(data)]
    assert np.array_equal(read.obs[qlearning_rows(read)], expected)


def test_of_antmaze_files_no_row_is_dropped_twice(tmp_path):
    data = rows(n=500, terminals=(), timeouts=(99, 199, 299, 399, 499))
    file = tmp_path / "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5"
    with h5py.File(file, "w") as opened:
        for key in set(data) - {"next_observations"}:  # as published
            opened[key] = data[key]
    read = load_transitions(f"d4rl:{file}")
    expected = data["observations"][kept_by_qlearning_dataset(data)]
    assert np.array_equal(read.obs[qlearning_rows(read)], expected)


def kept_by_percentage_bc(reward, terminal, frac, discount):
    """CORL's rule, row by row."""
    trajectories, current, total, weight = [], [], 0.0, 1.0
    for row, (gain, end) in enumerate(zip(reward, terminal, strict=True)):
        total, weight = total + weight * float(gain), weight * discount
        current.append(row)
        if end or len(current) == 1000:
            trajectories.append((total, current))
            current, total, weight = [], 0.0, 1.0
    trajectories.sort(key=lambda entry: entry[0])
    best = trajectories[::-1][: max(1, int(frac * len(trajectories)))]
    return [row for _, chosen in best for row in chosen]


@pytest.mark.parametrize(("frac", "discount"), [(0.1, 0.99), (0.5, 1.0), (1.0, 0.99)])
def test_bc_counts_the_best_trajectories_as_corl_cuts_them(frac, discount):
    rng = np.random.default_rng(0)
    reward = rng.normal(size=9000).astype(np.float32)
    # Trajectories of 50, exactly 1000, 1000 + 500, 3 x 1000 rows, then of any length, and an unfinished one.
    ends = [49, 1049, 2549, 5549, *np.sort(rng.choice(np.arange(5600, 8800), 40, replace=False))]
    terminal = np.isin(np.arange(9000), ends)
    chosen = best_rows(reward, terminal, frac, discount)
    assert chosen.tolist() == kept_by_percentage_bc(reward, terminal, frac, discount)


def test_the_part_of_the_data_that_bc_learned_from_comes_from_its_configuration(tmp_path, task):
    path, _ = write(tmp_path, "BC", stats=False)
    with pytest.raises(InputError, match="only config.yaml tells which part: .*checkpoint_9.stats.npz"):
        load(path, task)
    (tmp_path / "config.yaml").write_text("normalize: true\nfrac: 0.5\ndiscount: 1.0")
    data = rows()
    kept = kept_by_qlearning_dataset(data)
    best = kept_by_percentage_bc(data["rewards"][kept], data["terminals"][kept], 0.5, 1.0)
    seen = data["observations"][kept][best]
    np.testing.assert_allclose(load(path, task).obs_mean.numpy(), seen.mean(0), atol=1e-5)
    np.testing.assert_allclose(load(path, task).obs_std.numpy(), seen.std(0) + 1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("stats", "text"),
    [
        ({"obs_mean": np.zeros(S)}, "has no 'obs_std'"),
        ({"obs_mean": np.zeros(3), "obs_std": np.ones(S)}, r"obs_mean must hold 5 finite numbers, got float64 \(3,\)"),
        ({"obs_mean": np.full(S, np.nan), "obs_std": np.ones(S)}, "obs_mean must hold 5 finite numbers"),
        ({"obs_mean": np.array(["x"] * S), "obs_std": np.ones(S)}, "obs_mean must hold 5 finite numbers, got <U1"),
        ({"obs_mean": np.zeros(S), "obs_std": np.zeros(S)}, "every entry must be positive"),
    ],
)
def test_bad_statistics_are_named(tmp_path, task, stats, text):
    path, _ = write(tmp_path, "IQL", stats=False)
    np.savez(tmp_path / "checkpoint_9.stats.npz", **stats)
    for use in (lambda: load(path, task), lambda: inspect(path)):
        with pytest.raises(InputError, match=text):
            use()
