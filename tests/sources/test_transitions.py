"""Rows become transitions without ever pairing two episodes or bootstrapping past an end of the world."""

import numpy as np
import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.sources.rows import from_rows
from cdsa_lightning.sources.transitions import Transitions


def rows(n):
    """n rows whose observation is their own number: a pair across episodes shows at once."""
    obs = np.stack([np.arange(n), np.arange(n) + 0.5], axis=1).astype(np.float32)
    return obs, np.ones((n, 1), np.float32), np.arange(n, dtype=np.float32), np.zeros(n, bool)


def test_a_timeout_without_next_observations_loses_its_row():
    obs, action, reward, terminated = rows(6)
    timeout = np.array([0, 0, 1, 0, 0, 1], bool)
    data = from_rows(obs, action, reward, terminated, timeout=timeout)
    assert data.obs[:, 0].tolist() == [0, 1, 3, 4]
    assert data.next_obs[:, 0].tolist() == [1, 2, 4, 5]
    assert data.episode.tolist() == [0, 0, 1, 1]
    assert not data.terminated.any()


def test_a_terminal_without_next_observations_keeps_its_own_observation():
    obs, action, reward, terminated = rows(4)
    terminated[1] = True
    data = from_rows(obs, action, reward, terminated, timeout=np.zeros(4, bool))
    assert data.obs[:, 0].tolist() == [0, 1, 2]
    assert data.next_obs[:, 0].tolist() == [1, 1, 3]
    assert data.terminated.tolist() == [False, True, False]
    assert data.episode.tolist() == [0, 0, 1]


def test_next_observations_reveal_an_end_that_no_flag_marks():
    obs, action, reward, terminated = rows(4)
    next_obs = obs + 1
    next_obs[1] = 100
    data = from_rows(obs, action, reward, terminated, next_obs)
    assert data.episode.tolist() == [0, 0, 1, 1]
    assert data.next_obs[:, 0].tolist() == [1, 100, 3, 4]


def test_next_observations_shifted_across_an_end_are_not_believed():
    obs, action, reward, terminated = rows(6)
    terminated[3] = True
    data = from_rows(obs, action, reward, terminated, obs + 1, timeout=np.array([0, 1, 0, 0, 0, 0], bool))
    assert data.obs[:, 0].tolist() == [0, 2, 3, 4, 5]
    assert data.next_obs[:, 0].tolist() == [1, 3, 3, 5, 6]
    assert data.episode.tolist() == [0, 1, 1, 2, 2]


def test_an_episode_that_loses_its_only_row_leaves_no_gap():
    obs, action, reward, terminated = rows(5)
    data = from_rows(obs, action, reward, terminated, episode=np.array([7, 7, 3, 9, 9]))
    assert data.episode.tolist() == [0, 1]
    assert data.obs[:, 0].tolist() == [0, 3]


def test_rows_without_any_sign_of_episodes_are_refused():
    with pytest.raises(InputError, match="nothing tells where episodes end"):
        from_rows(*rows(4))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named_with_its_row(bad):
    obs, action, reward, terminated = rows(6)
    obs[4, 1] = bad
    with pytest.raises(InputError, match=r"obs holds 1 values that are NaN or infinite, first in row 4"):
        from_rows(obs, action, reward, terminated, timeout=np.zeros(6, bool))


@pytest.mark.parametrize("field", ["action", "reward", "next_obs", "terminated", "episode"])
def test_an_array_of_another_length_is_named(field):
    obs, action, reward, terminated = rows(6)
    arrays = dict(
        obs=obs, action=action, reward=reward, next_obs=obs, terminated=terminated, episode=np.zeros(6, np.int64)
    )
    arrays[field] = arrays[field][:5]
    with pytest.raises(InputError, match=field):
        Transitions(**arrays).validate()


def test_no_rows_at_all_are_refused():
    obs, action, reward, terminated = (x[:0] for x in rows(3))
    with pytest.raises(InputError, match="no transitions"):
        from_rows(obs, action, reward, terminated, timeout=terminated)


def test_the_fingerprint_sees_every_array():
    obs, action, reward, terminated = rows(6)
    first = from_rows(obs, action, reward, terminated, obs + 1)
    assert first.fingerprint == from_rows(*rows(6), obs + 1).fingerprint
    assert len(first.fingerprint) == 64
    for change in ("obs", "action", "reward", "next_obs"):
        arrays = {name: getattr(first, name).copy() for name in ("obs", "action", "reward", "next_obs")}
        arrays[change].flat[0] += 1
        assert Transitions(**arrays, terminated=terminated, episode=first.episode).fingerprint != first.fingerprint


def test_episode_returns_add_up_and_leave_out_cut_episodes_on_request():
    obs, action, reward, terminated = rows(6)
    data = from_rows(obs, action, reward, terminated, obs + 100, episode=np.array([0, 0, 1, 1, 2, 2]))
    assert data.episode_returns().tolist() == [1.0, 5.0, 9.0]
    facts = {"cdsa": {"cut_episodes": [1]}}
    arrays = {name: getattr(data, name) for name in ("obs", "action", "reward", "next_obs", "terminated", "episode")}
    assert Transitions(**arrays, metadata=facts).episode_returns(whole_only=True).tolist() == [1.0, 9.0]


def test_episodes_give_the_rows_back():
    obs, action, reward, terminated = rows(6)
    terminated[2] = True
    data = from_rows(obs, action, reward, terminated, obs + 100)
    episodes = list(data.episodes())
    assert sum(len(episode.reward) for episode in episodes) == 6
    assert [episode.terminated for episode in episodes].count(True) == 1
    assert all(len(episode.obs) == len(episode.reward) + 1 for episode in episodes)
    assert all(episode.truncated is not episode.terminated for episode in episodes)
