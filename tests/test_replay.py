"""Learning from one's own experience: what is recorded is what happened, and a resumed run is an undisturbed one."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
import torch
from lightning import Trainer
from torch import nn

from cdsa_lightning.acting import episode_seed
from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch
from cdsa_lightning.errors import InputError
from cdsa_lightning.replay import ReplayData
from cdsa_lightning.sources import load_transitions
from cdsa_lightning.stepping import ParameterGroup, SteppedModule
from cdsa_lightning.training import CDSAModule

PENDULUM = "gym:Pendulum-v1"  # observations [3], actions in [-2, 2], 200 steps


class Learner(SteppedModule):
    """Acts with a small network and fits it to the rewards it sees: enough to make acting depend on learning."""

    run_name = "learner"

    def __init__(self, seeds=(0, 1), inner_steps=10):
        super().__init__(seeds, inner_steps)
        self.save_hyperparameters()

    def build(self, info):
        self.net = stacked_mlp((info.obs_dim, 16, info.action_dim), nn.Tanh(), init_generators(self.seeds))

    def parameter_groups(self):
        return [ParameterGroup("net", list(self.net.parameters()), 1e-2)]

    def losses(self, batch: Batch, noise):
        return {"loss": (self.net(batch.obs) - batch.reward / 10).square().mean((-2, -1))}

    def explore(self, obs, noise):
        return (self.net(obs) + 0.3 * noise).clamp(-2, 2)


def fit(root, steps, module=None, ckpt_path=None, task=PENDULUM, **settings):
    root.mkdir(parents=True, exist_ok=True)
    data = ReplayData(task, **{"batch_size": 16, "envs": 2, "random_steps": 100, **settings})
    module = module or Learner()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=root,
    )
    trainer.fit(module, data, ckpt_path=ckpt_path)
    trainer.save_checkpoint(root / "last.ckpt")
    return module, data


def columns(data):
    """obs, action, next_obs, reward, terminated, ended of what is held, [E, T, n, .]."""
    rows = data.play.journal.latest(data.play.journal.held).unflatten(1, (-1, data.envs))
    return [part.numpy() for part in rows.split((*data.info.columns, 1), -1)]


def test_the_experience_is_what_the_environment_would_give_again(tmp_path):
    _, data = fit(tmp_path, 400)
    obs, action, next_obs, reward, _, ended = columns(data)
    assert obs.shape[:3] == (2, 250, 2)  # 100 transitions by chance, then one per gradient step, two lanes
    env = gymnasium.make("Pendulum-v1")
    for e, seed in enumerate((0, 1)):
        for lane in range(2):
            now, _ = env.reset(seed=episode_seed(seed, lane))
            for t in range(250):
                np.testing.assert_array_equal(obs[e, t, lane], now.astype(np.float32))
                now, gained, _, truncated, _ = env.step(action[e, t, lane])
                np.testing.assert_allclose(next_obs[e, t, lane], now, rtol=1e-6)
                assert reward[e, t, lane, 0] == pytest.approx(gained, rel=1e-6)
                assert bool(ended[e, t, lane, 0]) == truncated == (t == 199)
                if truncated:
                    now, _ = env.reset(seed=episode_seed(seed, 2 + lane))


def test_chance_acts_uniformly_first_and_the_module_after(tmp_path):
    module, data = fit(tmp_path, 10, random_steps=2000, batch_size=8)
    action = columns(data)[1]
    assert abs(action).max() <= 2
    counts = np.histogram(action, bins=8, range=(-2, 2))[0] / action.size
    np.testing.assert_allclose(counts, 1 / 8, atol=0.03)
    late = columns(fit(tmp_path / "late", 300)[1])[1][:, 60:]
    assert abs(late).std() < 0.9 * abs(action).std()  # the network's actions keep to the middle


WORLD = {"start": "corner", "risk_prob": 0.3}


@pytest.mark.parametrize(
    ("stop", "world"),  # between two chunks, within one, at the end of all episodes
    [(200, {}), (207, {}), (300, {}), (207, {"task": "risky-pointmass", "env_kwargs": WORLD})],
)
def test_a_resumed_run_equals_an_undisturbed_one_exactly(tmp_path, recwarn, stop, world):
    whole, data = fit(tmp_path / "whole", 340, **world)
    fit(tmp_path / "run", stop, **world)
    resumed, again = fit(tmp_path / "run", 340, ckpt_path=tmp_path / "run" / "last.ckpt", **world)
    assert not [str(w.message) for w in recwarn if "not repeatable" in str(w.message)]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert data.play.journal.total == again.play.journal.total
    for one, other in zip(columns(data), columns(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_seeds_side_by_side_live_as_they_would_alone(tmp_path):
    both = columns(fit(tmp_path / "both", 100)[1])
    alone = columns(fit(tmp_path / "alone", 100, Learner(seeds=(1,)))[1])
    for one, other in zip(both, alone, strict=True):
        np.testing.assert_allclose(one[1:], other, atol=1e-5)


def test_the_experience_becomes_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    _, data = fit(tmp_path / "run", 400, save_replay="tests/pendulum-replay-v0")
    found = load_transitions("minari:tests/pendulum-replay-v0")
    assert len(found) == 1000  # two seeds of 500
    lengths = np.bincount(found.episode)
    assert sorted(lengths.tolist()) == [50, 50, 50, 50, 200, 200, 200, 200]
    obs, action, next_obs, reward, *_ = columns(data)
    np.testing.assert_array_equal(found.obs[:250], obs[0, :, 0])
    np.testing.assert_array_equal(found.action[250:500], action[0, :, 1])
    np.testing.assert_array_equal(found.next_obs[500:750], next_obs[1, :, 0])
    np.testing.assert_allclose(found.reward[750:], reward[1, :, 1, 0], rtol=1e-6)
    assert not found.terminated.any()
    with pytest.raises(InputError, match="exists already"):
        ReplayData(PENDULUM, save_replay="tests/pendulum-replay-v0").load()


def test_a_small_buffer_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    _, data = fit(tmp_path / "run", 400, capacity=300, save_replay="tests/pendulum-replay-v0")
    assert data.play.journal.held == 300
    found = load_transitions("minari:tests/pendulum-replay-v0")
    assert len(found) == 600
    np.testing.assert_array_equal(found.obs[150:300], columns(data)[0][0, :, 1])


def test_the_module_acts_in_the_environment_that_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    settings = {"task": "risky-pointmass", "env_kwargs": {"start": "corner"}}
    _, data = fit(tmp_path / "run", 200, save_replay="tests/corner-v0", **settings)
    obs, *_, ended = columns(data)
    begun = np.concatenate((obs[:, 0].reshape(-1, 4), obs[:, 1:][ended[:, :-1, :, 0] == 1]))[:, :2]
    assert len(begun) > 4 and begun.min() >= 0.8 and begun.max() <= 0.85
    (record,) = (tmp_path / "store").rglob("metadata.json")
    assert json.loads(record.read_text())["cdsa"]["env_kwargs"] == {"start": "corner"}
    elsewhere = {"task": "risky-pointmass", "env_kwargs": {"start": "uniform"}, "ckpt_path": tmp_path / "run/last.ckpt"}
    with pytest.raises(InputError, match=r"environment has {'start': 'corner'}, this run's {'start': 'uniform'}"):
        fit(tmp_path / "run", 300, **elsewhere)


def test_a_setting_that_the_environment_lacks_is_refused_before_a_run(tmp_path):
    with pytest.raises(InputError, match="cannot be made with {'strat': 'corner'}"):
        ReplayData("risky-pointmass", env_kwargs={"strat": "corner"}).load()


def test_what_cannot_learn_online_is_refused(tmp_path):
    with pytest.raises(InputError, match="CDSAModule does not act while it learns.*SAC"):
        fit(tmp_path, 10, CDSAModule("paper", seeds=(0,)))
    for settings in ({"envs": 0}, {"batch_size": 0}, {"updates_per_step": 0.0}, {"capacity": 0}, {"random_steps": 0}):
        with pytest.raises(InputError):
            ReplayData(PENDULUM, **settings)
    with pytest.raises(InputError, match="needs continuous ones"):
        ReplayData("gym:CartPole-v1")


def test_a_checkpoint_without_its_experience_is_refused(tmp_path):
    fit(tmp_path, 50)
    for path in (tmp_path / "replay").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="ends at row 0 of 150"):
        fit(tmp_path, 100, ckpt_path=tmp_path / "last.ckpt")
