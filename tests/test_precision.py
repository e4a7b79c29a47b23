"""Mixed precision: lowered inside the networks alone, from the weights of the step at hand; else refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cdsa_baselines._nets import Twins
from cdsa_baselines.cql import judge
from cdsa_baselines.iql import IQL
from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.errors import InputError
from training_data import train, write_npz


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "data.npz")


def lowered(net, x):
    with torch.autocast("cpu", torch.bfloat16):
        return net(x)


def test_what_enters_and_leaves_a_network_keeps_its_precision():
    net, x = stacked_mlp((4, 8, 3), nn.Tanh(), init_generators((0, 1))), torch.randn(2, 5, 4)
    assert torch.equal(lowered(net, x), net(x))


def test_what_lies_between_is_lowered():
    net, x = stacked_mlp((4, 64, 64, 3), nn.Tanh(), init_generators((0, 1))), torch.randn(2, 500, 4)
    exact, rounded = net(x), lowered(net, x)
    assert rounded.dtype == torch.float32
    assert 1e-5 < (rounded - exact).abs().mean() < 1e-2 * exact.abs().mean()


def test_critics_that_judge_in_pieces_are_lowered_as_others_are():
    torch.manual_seed(0)
    twins = Twins((6, 64, 64, 1), init_generators((0, 1)))
    obs, actions = torch.randn(2, 5, 4), torch.randn(2, 5, 3, 2)
    pairs = torch.cat((obs.unsqueeze(-2).expand(-1, -1, 3, -1), actions), -1).flatten(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        pieces, whole = judge(twins, obs, actions), twins(pairs).view(2, 2, 5, 3)
    torch.testing.assert_close(pieces, whole, atol=2e-4, rtol=0)
    assert (judge(twins, obs, actions) - whole).abs().max() > 2e-4


class Lowered(IQL):
    """Trains under an autocast that may, or may not, keep lowered copies of the weights until it ends."""

    keeps = True

    def training_step(self, chunk, batch_idx):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=self.keeps):
            super().training_step(chunk, batch_idx)


def test_every_step_of_a_chunk_sees_the_weights_that_the_one_before_left(npz, tmp_path):
    module, judge = Lowered(seeds=(0, 1), hidden=32), Lowered(seeds=(0, 1), hidden=32)
    judge.keeps = False
    train(module, npz, 30, tmp_path / "kept")
    train(judge, npz, 30, tmp_path / "fresh")
    for name, value in judge.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name


def test_mixed_precision_goes_where_single_precision_goes(npz, tmp_path):
    single, mixed = IQL(seeds=(0, 1), hidden=32), IQL(seeds=(0, 1), hidden=32)
    start = IQL(seeds=(0, 1), hidden=32)
    train(single, npz, 300, tmp_path / "single")
    train(mixed, npz, 300, tmp_path / "mixed", precision="bf16-mixed")
    start.ensure_built(single.data_info)
    way, apart = 0.0, 0.0
    for name, value in start.state_dict().items():
        way += float((single.state_dict()[name] - value).square().sum())
        apart += float((single.state_dict()[name] - mixed.state_dict()[name]).square().sum())
    assert 0 < apart < 0.02 * way


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_weights_of_16_bits_are_refused(npz, tmp_path, precision):
    with pytest.raises(InputError, match=f"'{precision}' would keep weights.*32-true, 64-true, bf16-mixed"):
        train(IQL(seeds=(0,), hidden=32), npz, 10, tmp_path, precision=precision)


@pytest.mark.parametrize(("capability", "told"), [("AVX2", True), ("AVX512", False)])
def test_a_processor_that_emulates_bfloat16_is_told(npz, tmp_path, monkeypatch, recwarn, capability, told):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    train(IQL(seeds=(0,), hidden=32), npz, 10, tmp_path / "mixed", precision="bf16-mixed")
    assert any("Give --trainer.precision 32-true" in str(w.message) for w in recwarn) == told
    recwarn.clear()
    train(IQL(seeds=(0,), hidden=32), npz, 10, tmp_path / "single")
    assert not any("bfloat16" in str(w.message) for w in recwarn)
