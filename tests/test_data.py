"""Transitions on the training device: what the table holds, how it is drawn from, and what is told about it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.data import Batch, DataInfo, TransitionData
from cdsa_lightning.errors import InputError
from cdsa_lightning.training import CDSAModule
from training_data import TASK, train, write_npz


@pytest.fixture(scope="module")
def npz(tmp_path_factory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "data.npz", 500)


def ready(npz: Path, **settings) -> TransitionData:
    data = TransitionData(TASK, f"npz:{npz}", **settings)
    data.setup("fit")
    return data


def chunks(data: TransitionData, step: int = 0, seeds=(0, 1), world: int = 1, rank: int = 0, steps: int = 30):
    """The loader as a trainer at gradient step `step` sees it, 10 steps a chunk."""
    module = SimpleNamespace(inner_steps=10, seeds=seeds)
    data.trainer = SimpleNamespace(
        lightning_module=module, global_step=step, max_steps=steps, world_size=world, global_rank=rank
    )
    return data.train_dataloader()


def test_a_row_is_obs_action_next_obs_reward_terminated(npz):
    data, arrays = ready(npz), np.load(npz)
    batch = Batch(*data.rows.split(data.info.columns, 1))
    for part, key in zip(batch, ("obs", "actions", "next_obs", "rewards", "terminals"), strict=True):
        np.testing.assert_array_equal(part.squeeze().numpy(), arrays[key].astype(np.float32))
    assert data.rows.dtype == torch.float32 and data.table is None  # held once


def test_statistics_and_origin_travel_with_the_data(npz):
    info, arrays = ready(npz).info, np.load(npz)
    np.testing.assert_allclose(info.obs_mean, arrays["obs"].mean(0), rtol=1e-5)
    np.testing.assert_allclose(info.action_std, arrays["actions"].std(0), rtol=1e-5)
    returns = arrays["rewards"].reshape(-1, 20).sum(1)
    np.testing.assert_allclose([info.mean_return, info.min_return], [returns.mean(), returns.min()], rtol=1e-4)
    assert (info.task, info.source, info.transitions) == (TASK, f"npz:{npz}", 500)
    assert (info.low, info.high) == (pytest.approx([-0.1, -0.1]), pytest.approx([0.1, 0.1]))
    assert len(info.fingerprint) == 64


def test_an_entry_that_never_changes_is_left_in_its_units(npz, tmp_path):
    arrays = dict(np.load(npz))
    arrays["obs"][:, 2:] = 0.1
    np.savez(tmp_path / "still.npz", **arrays)
    info = ready(tmp_path / "still.npz").info
    assert info.obs_std[2:] == [1.0, 1.0] and info.obs_mean[2] == pytest.approx(0.1)


def test_the_record_survives_a_checkpoint(npz):
    info = ready(npz).info
    assert DataInfo.from_dict({**info.to_dict(), "from the future": 1}) == info
    with pytest.raises(InputError, match="lacks fingerprint, low"):
        DataInfo.from_dict({k: v for k, v in info.to_dict().items() if k not in ("low", "fingerprint")})


def test_every_seed_draws_its_own_rows_from_the_whole_table(npz):
    data = ready(npz, batch_size=64)
    drawn = list(chunks(data, seeds=(3, 8)))
    assert len(drawn) == 3 and drawn[0].shape == (2, 10, 64, data.rows.shape[1])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert not torch.equal(drawn[0], drawn[1])
    alone = next(iter(chunks(data, seeds=(8,))))
    assert torch.equal(alone[0], drawn[0][1])  # whoever trains beside it
    obs = torch.cat(drawn)[..., :4].reshape(-1, 4).unique(dim=0)
    assert len(obs) > 450 and len(obs) <= 500


def test_a_resumed_run_draws_what_the_undisturbed_one_would(npz):
    data = ready(npz, batch_size=8)
    whole = list(chunks(data))
    for step, first in ((10, 1), (17, 1), (20, 2)):
        rest = list(chunks(data, step=step))
        assert len(rest) == 3 - first
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[first:], strict=True))


def test_processes_share_the_joint_batch(npz):
    data = ready(npz, batch_size=8)
    joint = next(iter(chunks(data)))
    parts = [next(iter(chunks(data, world=2, rank=rank))) for rank in (0, 1)]
    assert torch.equal(torch.cat(parts, 2), joint)


def test_batches_that_cannot_be_made_are_refused(npz):
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        TransitionData(TASK, batch_size=0)
    data = TransitionData(TASK, f"npz:{npz}", batch_size=9)
    data.trainer = SimpleNamespace(world_size=2)
    with pytest.raises(InputError, match="batch_size 9 does not divide among 2 processes"):
        data.setup("fit")


def scored(path: Path, returns: list[float]) -> Path:
    """Episodes of five transitions with these returns, told apart by their observations: 0, 1, 2, ..."""
    rows = 5 * len(returns)
    obs = np.repeat(np.arange(len(returns)), 5)[:, None].repeat(4, 1).astype(np.float32)
    arrays = {"obs": obs, "next_obs": obs, "actions": np.zeros((rows, 2)), "episode": np.repeat(range(len(returns)), 5)}
    np.savez(path, rewards=np.repeat(returns, 5) / 5, terminals=np.arange(rows) % 5 == 4, **arrays)
    return path


@pytest.mark.parametrize(
    ("fraction", "kept"), [(0.1, [7]), (0.3, [2, 5, 7]), (0.01, [7]), (0.5, [0, 2, 4, 5, 7]), (1.0, list(range(10)))]
)
def test_the_best_share_of_the_episodes_is_kept_whole_and_in_order(tmp_path, fraction, kept):
    returns = [3.0, 1.0, 6.0, 2.0, 4.0, 5.0, 0.0, 9.0, 3.0, -1.0]  # of the equals 0 and 8 the first comes first
    data = ready(scored(tmp_path / "data.npz", returns), top_fraction=fraction)
    batch, info = Batch(*data.rows.split(data.info.columns, 1)), data.info
    assert batch.obs[:, 0].tolist() == [episode for episode in kept for _ in range(5)]
    assert batch.terminated[:, 0].tolist() == [0, 0, 0, 0, 1] * len(kept)
    chosen = [returns[episode] for episode in kept]
    found = (info.mean_return, info.min_return, info.max_return, info.obs_mean[0], info.transitions)
    assert found == pytest.approx((np.mean(chosen), min(chosen), max(chosen), np.mean(kept), 5 * len(kept)), rel=1e-5)


def test_the_record_tells_what_was_kept(tmp_path):
    npz = scored(tmp_path / "data.npz", [1.0, 3.0, 2.0, 0.0])
    whole, half = ready(npz).info, ready(npz, top_fraction=0.5).info
    assert (whole.top_fraction, whole.source) == (1.0, f"npz:{npz}")
    assert (half.top_fraction, half.source) == (0.5, f"npz:{npz} (best 2 of 4 episodes)")
    assert half.fingerprint != whole.fingerprint and len(half.fingerprint) == 64
    before = {key: value for key, value in whole.to_dict().items() if key != "top_fraction"}
    assert DataInfo.from_dict(before) == whole  # checkpoints from before there was a choice hold all data


def chosen(data, seeds=(0, 1), steps=1000):
    """How often each row was drawn, [N], by the episode that its observations name."""
    rows = torch.cat([chunk[..., 0].flatten() for chunk in chunks(data, seeds=seeds, steps=steps)])
    return torch.bincount(rows.long())


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_transitions_are_drawn_as_often_as_their_weights_say(tmp_path, fraction):
    returns = np.array([3.0, 1.0, 6.0, 2.0, 4.0, 5.0])
    data = ready(
        scored(tmp_path / "data.npz", returns.tolist()), weights="return", batch_size=64, top_fraction=fraction
    )
    kept = np.flatnonzero(returns >= np.quantile(returns, 1 - fraction))
    weight = np.exp((returns[kept] - 6) / returns[kept].std())
    counts = chosen(data)[kept].numpy().astype(float)
    expected = weight / weight.sum() * counts.sum()
    assert counts.sum() == 2 * 1000 * 64  # and none was drawn of what was not kept
    # The 99.99 % quantile of chi-square with 5 and with 2 degrees of freedom.
    assert ((counts - expected) ** 2 / expected).sum() < {1.0: 25.7, 0.5: 18.4}[fraction]


def test_within_an_episode_all_transitions_are_drawn_alike(tmp_path):
    path = scored(tmp_path / "data.npz", [0.0, 1.0])
    arrays = dict(np.load(path))
    arrays["obs"] = arrays["next_obs"] = np.arange(10)[:, None].repeat(4, 1).astype(np.float32)
    np.savez(path, **arrays)
    counts = chosen(ready(path, weights="return", batch_size=64)).numpy().astype(float)
    for half, share in ((counts[:5], 1), (counts[5:], np.exp(2))):
        expected = 2 * 1000 * 64 * share / (1 + np.exp(2)) / 5
        assert ((half - expected) ** 2 / expected).sum() < 27.9  # the 99.99 % quantile of chi-square with 5


def test_weighted_draws_are_each_seeds_own_and_are_resumed_exactly(npz):
    data = ready(npz, batch_size=8, weights="return")
    whole = list(chunks(data, seeds=(3, 8)))
    assert not torch.equal(whole[0][0], whole[0][1])
    assert torch.equal(next(iter(chunks(data, seeds=(8,))))[0], whole[0][1])
    for step, first in ((10, 1), (17, 1), (20, 2)):
        rest = list(chunks(data, seeds=(3, 8), step=step))
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[first:], strict=True))
    parts = [next(iter(chunks(data, seeds=(3, 8), world=2, rank=rank))) for rank in (0, 1)]
    assert torch.equal(torch.cat(parts, 2), whole[0])


def test_a_row_without_weight_is_never_drawn_and_the_last_is_reached(npz, monkeypatch):
    weight = np.zeros(500)
    weight[[3, 499]] = 1.0
    monkeypatch.setattr("cdsa_lightning.data.transition_weights", lambda *_: weight)
    data = ready(npz, weights="safety", batch_size=64)
    drawn = torch.cat(list(chunks(data))).reshape(-1, data.rows.shape[1]).unique(dim=0)
    assert torch.equal(drawn, data.rows[[3, 499]].unique(dim=0))
    assert torch.equal(data.sample(100).unique(dim=0), drawn)


def test_a_sample_is_the_same_every_time_and_drawn_as_for_training(tmp_path):
    npz = write_npz(tmp_path / "data.npz", 5000)
    data, weighted = ready(npz), ready(npz, weights="return")
    assert torch.equal(data.sample(100), data.sample(100)) and len(data.sample(10_000)) == 5000
    assert len(data.sample(5000).unique(dim=0)) == 5000
    assert weighted.sample(5000)[:, -2].mean() > data.rows[:, -2].mean() + 0.05  # rewards of better episodes


def test_the_record_tells_how_transitions_were_drawn(npz, tmp_path):
    info = ready(npz, weights="safety").info
    assert info.weights == "safety" and DataInfo.from_dict(info.to_dict()) == info
    before = {key: value for key, value in ready(npz).info.to_dict().items() if key != "weights"}
    assert DataInfo.from_dict(before).weights == "uniform"  # checkpoints from before there was a choice
    train(CDSAModule(seeds=(0,)), npz, 10, tmp_path, weights="return")
    assert load_corrector(tmp_path / "corrector.safetensors").info["weights"] == "return"
    with pytest.warns(UserWarning, match=r"comes from other data \(npz:.*, drawn by return\)"):
        train(CDSAModule(seeds=(0,)), npz, 20, tmp_path / "on", ckpt_path=tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="'saftey'. Did you mean 'safety'?"):
        TransitionData(TASK, weights="saftey")


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_a_share_that_cannot_be_kept_is_refused(fraction):
    with pytest.raises(InputError, match=r"top_fraction must lie in \(0, 1\] \(1 for all episodes\), got"):
        TransitionData(TASK, top_fraction=fraction)


def test_a_run_resumed_with_another_share_says_so(npz, tmp_path):
    train(CDSAModule(seeds=(0,)), npz, 10, tmp_path, top_fraction=0.5)
    with pytest.warns(UserWarning, match=r"comes from other data \(npz:.* \(best 12 of 25 episodes\)\)"):
        train(CDSAModule(seeds=(0,)), npz, 20, tmp_path / "all", ckpt_path=tmp_path / "last.ckpt")


def test_a_run_resumed_with_other_batches_says_so(npz, tmp_path):
    train(CDSAModule(seeds=(0,)), npz, 10, tmp_path)
    with pytest.warns(UserWarning, match=r"comes from batches of 32; going on with 64\."):
        train(CDSAModule(seeds=(0,)), npz, 20, tmp_path / "on", ckpt_path=tmp_path / "last.ckpt", batch_size=64)
