"""Whatever stops a collection, its finished shards stay, and going on gives the undisturbed data set."""

import minari
import numpy as np
import pytest
import torch

from cdsa_lightning import collection, shards
from cdsa_lightning.collection import Output, collect, combine
from cdsa_lightning.core.policy import FunctionPolicy, Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import load_transitions, store
from cdsa_lightning.tasks import get_task


class RandomWalk(Policy):
    """Draws from its own generator, so that a wrong seed shows."""

    stochastic = True

    def __init__(self, low, high, num_seeds=1):
        super().__init__(low, high)
        self.num_seeds = num_seeds
        self.generator = torch.Generator()

    def reseed(self, seed):
        self.generator.manual_seed(seed)

    def forward(self, obs):
        share = torch.rand(*obs.shape[:-1], self.action_dim, generator=self.generator)
        return self.low + (self.high - self.low) * share


@pytest.fixture(autouse=True)
def minari_root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def task():
    return get_task("risky-pointmass")


@pytest.fixture
def walk(task):
    return RandomWalk(task.low, task.high)


def gather(walk, task, dataset_id="cdsa/walk-v0", steps=700, seed=3, shard_steps=300, **kwargs):
    output = {key: kwargs.pop(key) for key in ("data_format", "overwrite", "progress") if key in kwargs}
    return collect(walk, task, Output(dataset_id, **output), steps, seed, shard_steps=shard_steps, lanes=4, **kwargs)


def fingerprint(dataset_id="cdsa/walk-v0"):
    return load_transitions(f"minari:{dataset_id}").fingerprint


def test_a_collection_has_exactly_the_wanted_steps_in_whole_and_cut_episodes(walk, task):
    done = gather(walk, task)
    data = load_transitions("minari:cdsa/walk-v0")
    assert done.steps == len(data) == 700
    assert done.episodes == data.num_episodes
    cut = data.metadata["cdsa"]["cut_episodes"]
    lengths = np.bincount(data.episode)
    assert (lengths[cut] < 100).all()
    ended = np.bincount(data.episode, weights=data.terminated)
    whole = np.delete(np.arange(len(lengths)), cut)
    assert ((lengths[whole] == 100) | (ended[whole] == 1)).all()
    assert done.mean_return == pytest.approx(data.episode_returns(whole_only=True).mean(), rel=1e-5)


def test_rows_within_an_episode_follow_the_environments_dynamics(walk, task):
    gather(walk, task)
    data = load_transitions("minari:cdsa/walk-v0")
    moved = np.clip(data.obs[:, :2] + data.action, 0, 1)
    assert np.abs(moved - data.next_obs[:, :2]).max() < 1e-6


def test_the_same_arguments_give_the_same_data_and_another_seed_others(walk, task):
    for number, seed in enumerate((3, 3, 4)):
        gather(walk, task, f"cdsa/{number}-v0", seed=seed)
    assert fingerprint("cdsa/0-v0") == fingerprint("cdsa/1-v0") != fingerprint("cdsa/2-v0")


def test_both_formats_hold_the_same_data_and_minari_reads_them(walk, task):
    gather(walk, task, "cdsa/h-v0")
    gather(walk, task, "cdsa/a-v0", data_format="arrow")
    assert fingerprint("cdsa/h-v0") == fingerprint("cdsa/a-v0")
    assert set(minari.list_local_datasets()) == {"cdsa/h-v0", "cdsa/a-v0"}
    theirs = minari.load_dataset("cdsa/h-v0")
    assert theirs.total_steps == 700
    assert theirs.recover_environment().spec.id == "cdsa/RiskyPointMass-v0"
    with pytest.raises(InputError, match="Unknown data format 'csv'"):
        gather(walk, task, "cdsa/c-v0", data_format="csv")


def test_metadata_say_how_the_data_were_made(walk, task, tmp_path):
    checkpoint = tmp_path / "walk.npz"
    checkpoint.write_bytes(b"weights")
    gather(walk, task, behaviour="walk walk.npz", noise=0.01, checkpoint=checkpoint)
    made = store.metadata("cdsa/walk-v0")["cdsa"]
    assert (made["behaviour"], made["noise"], made["seed"]) == ("walk walk.npz", 0.01, 3)
    assert len(made["checkpoint_sha256"]) == 64
    assert {"python", "gymnasium", "mujoco", "minari", "torch"} <= set(made["versions"])
    assert load_transitions("minari:cdsa/walk-v0").provenance == "regenerated"


def test_noise_moves_the_actions_and_keeps_them_in_bounds(task):
    still = FunctionPolicy(lambda obs: torch.zeros(len(obs), 2), task.low, task.high)
    gather(still, task, noise=0.05)
    action = load_transitions("minari:cdsa/walk-v0").action
    assert 0.03 < action.std() < 0.05
    assert np.abs(action).max() <= 0.1 + 1e-6
    with pytest.raises(InputError, match="noise"):
        gather(still, task, "cdsa/x-v0", noise=-1.0)


def test_a_policy_of_several_seeds_shares_the_lanes(task):
    done = gather(RandomWalk(task.low, task.high, num_seeds=2), task)
    assert done.steps == 700


@pytest.mark.parametrize("steps", [1, 3, 5, 299, 301])
def test_odd_numbers_of_steps_come_out_exactly(walk, task, steps):
    assert gather(walk, task, steps=steps).steps == steps


def test_time_limits_are_no_cuts_and_cuts_are_no_terminations(task):
    still = FunctionPolicy(lambda obs: torch.zeros(len(obs), 2), task.low, task.high)
    collect(still, task, Output("cdsa/still-v0"), 450, 0, lanes=2, shard_steps=450)
    data = load_transitions("minari:cdsa/still-v0")
    lengths = np.bincount(data.episode)
    assert sorted(lengths.tolist()) == [25, 25, 100, 100, 100, 100]
    assert lengths[data.metadata["cdsa"]["cut_episodes"]].tolist() == [25, 25]
    assert not data.terminated.any()


def test_an_interrupted_collection_goes_on_to_the_undisturbed_result(walk, task, minari_root):
    gather(walk, task, "cdsa/whole-v0")
    gained = []

    def interrupt(steps):
        gained.append(steps)
        if sum(gained) > 450:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(walk, task, progress=interrupt)
    assert not store.is_stored("cdsa/walk-v0")
    assert "300 transitions are kept" in shards.kept("cdsa/walk-v0")
    gained = []
    gather(walk, task, progress=gained.append)
    assert gained[0] == 300
    assert sum(gained) == 700
    assert fingerprint() == fingerprint("cdsa/whole-v0")
    assert [path.name for path in (minari_root / "cdsa").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("change", [{"seed": 4}, {"noise": 0.02}, {"behaviour": "other"}, {"steps": 800}])
def test_going_on_with_other_settings_is_refused(walk, task, change):
    stop(walk, task)
    with pytest.raises(InputError, match=f"other settings .*{next(iter(change))}.*delete that folder"):
        gather(walk, task, **change)
    gather(walk, task, "cdsa/fresh-v0", **change)
    gather(walk, task, overwrite=True, **change)
    assert fingerprint() == fingerprint("cdsa/fresh-v0")


def test_a_finished_data_set_is_replaced_only_on_request_and_only_when_complete(walk, task):
    gather(walk, task)
    before = fingerprint()
    with pytest.raises(InputError, match="exists already"):
        gather(walk, task, seed=4)
    stop(walk, task, seed=4, overwrite=True)
    assert fingerprint() == before
    gather(walk, task, seed=4, overwrite=True)
    assert fingerprint() != before


def test_a_damaged_shard_is_named(walk, task):
    stop(walk, task)
    [shard] = store.partial_path("cdsa/walk-v0").glob("shard-*.npz")
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(InputError, match="shard-00000.npz is damaged.*Delete it"):
        gather(walk, task)


def test_two_collections_into_one_id_at_once_are_refused(walk, task):
    def second(steps):
        gather(walk, task)

    with pytest.raises(InputError, match="Another process is collecting"):
        gather(walk, task, progress=second)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"shard_steps": 0}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(walk, task, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        gather(walk, task, **wrong)


def test_combining_keeps_every_episode_in_order(walk, task):
    gather(walk, task, "cdsa/a-v0")
    gather(walk, task, "cdsa/b-v0", seed=9)
    done = combine(task, ["cdsa/a-v0", "cdsa/b-v0"], Output("cdsa/ab-v0"))
    a, b, both = (load_transitions(f"minari:cdsa/{name}-v0") for name in ("a", "b", "ab"))
    assert done.steps == 1400
    assert np.array_equal(both.obs, np.concatenate([a.obs, b.obs]))
    assert np.array_equal(both.next_obs, np.concatenate([a.next_obs, b.next_obs]))
    assert np.array_equal(both.terminated, np.concatenate([a.terminated, b.terminated]))
    assert np.array_equal(both.episode, np.concatenate([a.episode, b.episode + a.num_episodes]))
    expected = a.metadata["cdsa"]["cut_episodes"] + [
        a.num_episodes + index for index in b.metadata["cdsa"]["cut_episodes"]
    ]
    assert both.metadata["cdsa"]["cut_episodes"] == expected
    assert [part["dataset_id"] for part in both.metadata["cdsa"]["parts"]] == ["cdsa/a-v0", "cdsa/b-v0"]
    with pytest.raises(InputError, match="from itself"):
        combine(task, ["cdsa/a-v0"], Output("cdsa/a-v0"))


def test_combining_refuses_data_of_another_world(walk, task):
    gather(walk, task, "cdsa/a-v0")
    with pytest.raises(InputError, match="does not fit the task 'hopper-medium'"):
        combine(get_task("hopper-medium"), ["cdsa/a-v0"], Output("cdsa/ab-v0"))


def test_a_budget_marks_only_what_it_cuts(task):
    env = collection._Budget(task.make_env(3), 7)
    env.reset(seed=[1, 2, 3])
    cuts = []
    for _ in range(3):
        truncated = env.step(np.zeros((3, 2)))[3]
        cuts.append(truncated.tolist())
    assert cuts == [[False] * 3, [False, True, True], [True, False, False]]
    assert list(env.cuts) == [True, True, True]


def stop(walk, task, **kwargs):
    """Begin a collection and leave it after its first shard."""
    gained = []

    def interrupt(steps):
        gained.append(steps)
        if sum(gained) > 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(walk, task, progress=interrupt, **kwargs)
