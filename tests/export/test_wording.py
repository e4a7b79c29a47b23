"""Operators of torch in NumPy's words: each against torch, and seeds as an axis that is not there."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cdsa_lightning.core.policy import FunctionPolicy, Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.export.listing import operations_of
from cdsa_lightning.runtime.operations import Program

WIDTH = 4
ROW, WEIGHT = torch.linspace(-1, 2, WIDTH), torch.randn(WIDTH, 3, generator=torch.Generator().manual_seed(0))
norm, thrice = nn.LayerNorm(WIDTH).requires_grad_(False), nn.Linear(WIDTH, 3, bias=False).requires_grad_(False)
norm.weight.copy_(ROW), norm.bias.copy_(ROW.flip(0))

PIECES = {
    **{one.__name__: one for one in (torch.abs, torch.cos, torch.erf, torch.exp, torch.expm1, torch.sin, torch.tanh)},
    **{one.__name__: one for one in (torch.sigmoid, torch.square, torch.neg, torch.relu, torch.reciprocal)},
    **{one.__name__: one for one in (F.silu, F.gelu, F.elu, F.selu, F.mish, F.softplus, F.hardtanh, F.relu6)},
    "log sqrt rsqrt": lambda x: torch.log(x.abs() + 1) + torch.sqrt(x.abs()) + torch.rsqrt(x.abs() + 1),
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu celu": lambda x: F.elu(x, 0.5) + 10 * F.celu(x, 2.0),
    "leaky": lambda x: F.leaky_relu(x, 0.1) + 10 * F.leaky_relu(x, 3.0),
    "softplus": lambda x: F.softplus(x, beta=2.0, threshold=5.0),
    "softsign tanhshrink": lambda x: F.softsign(x) + 10 * F.tanhshrink(x),
    "arithmetic": lambda x: (2 * x + 1 - ROW) / (x * ROW + 100) + (3 - x) / 2 - torch.rsub(x, ROW, alpha=2),
    "alpha": lambda x: torch.add(x, x * ROW, alpha=3) - torch.sub(x, ROW, alpha=0.5),
    "powers": lambda x: x**2 + x.abs() ** 0.5 + 1 / (x**2 + 1),
    "bounds": lambda x: torch.minimum(torch.maximum(x, -ROW.abs()), ROW + 9) + 10 * x.clamp(-1, 0.5).clamp_min(-0.7),
    "one bound": lambda x: x.clamp(max=0.2) + 10 * x.clamp(min=torch.tensor(-0.1)).clamp_max(3),
    "where": lambda x: torch.where(x > 0, x, ROW) + torch.where(ROW < x, 7.0, x) + (x > ROW) * x,
    "layer norm": norm,
    "other norms": lambda x: F.layer_norm(x, (WIDTH,), eps=0.1) + F.rms_norm(x, (WIDTH,), ROW),
    "linear": lambda x: thrice(x) + F.linear(x, WEIGHT.T, ROW[:3]) + x @ WEIGHT,
    "products": lambda x: torch.addmm(ROW[:3], x, WEIGHT) + torch.mm(x, WEIGHT),
    "seed axis": lambda x: torch.baddbmm(ROW[None, None, :3], x[None], WEIGHT[None])[0],
    "over rows": lambda x: torch.cat((x.sum(-1, True), x.mean(-1, keepdim=True), x.norm(dim=1, keepdim=True)), -1),
    "without the axis": lambda x: torch.stack((x.sum(1), x.amax(-1), x.amin(-1) * x[:, 0]), -1) + x.mean(1)[:, None],
    "slices": lambda x: torch.cat((x[..., 1:3], x[:, -1:], x[:, :2], x.narrow(1, 1, 2)), 1),
    "single entries": lambda x: torch.stack((x[:, 2], x[:, -1]), 1) + x.select(1, 0)[:, None],
    "columns": lambda x: torch.cat((x[..., [3, 0, 1]], x.index_select(1, torch.tensor([2, -1 % WIDTH]))), -1),
    "parts": lambda x: torch.cat((x.chunk(2, -1)[1], *x.split([1, 3], -1), x.unbind(-1)[2][:, None]), -1),
    "views": lambda x: x.reshape(-1, WIDTH).view(x.shape).flatten(1).unsqueeze(0).squeeze(0).double().float().clone(),
    "expanded": lambda x: x[None].expand(1, -1, -1)[0].contiguous().detach(),
    "known before": lambda x: x * (ROW.exp() - ROW.mean()).clamp(0, 1) + torch.arange(WIDTH).chunk(2)[1].repeat(2),
    "in place": lambda x: (x + 1).relu_().mul_(2).sub_(ROW).clamp_(-1, 5),
}  # fmt: skip


@pytest.fixture(scope="module")
def answers():
    """What torch and NumPy answer, by piece: one policy out of all pieces."""
    obs = 3 * torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(1))
    wanted = {name: piece(obs).numpy() for name, piece in PIECES.items()}
    bound = [1e9] * sum(part.shape[1] for part in wanted.values())
    policy = FunctionPolicy(
        lambda x: torch.cat([piece(x) for piece in PIECES.values()], -1), [-b for b in bound], bound
    )
    operations, tensors = operations_of(policy.eval(), WIDTH)
    program = Program(operations, {name: one.numpy() for name, one in tensors.items()}, WIDTH, len(bound))
    ends = np.cumsum([part.shape[1] for part in wanted.values()])[:-1]
    found = np.split(program(obs.numpy()), ends, axis=1), np.split(program(obs.numpy()[7]), ends)
    return {name: (wanted[name], *parts) for name, *parts in zip(wanted, *found, strict=True)}


@pytest.mark.parametrize("name", PIECES)
def test_numpy_answers_what_torch_answers_to_batches_and_single_rows(answers, name):
    wanted, batch, single = answers[name]
    np.testing.assert_allclose(batch, wanted, rtol=3e-6, atol=3e-6)
    np.testing.assert_allclose(single, wanted[7], rtol=3e-6, atol=3e-6)
    assert batch.dtype == single.dtype == np.float32


class Plain(Policy):
    """Three operations, and two without an effect, for one of which there is no word."""

    def forward(self, obs):
        torch.softmax(obs, -1).exp()
        return torch.tanh(obs - self.low) / 1


def test_a_list_holds_what_the_answer_needs_and_each_tensor_once():
    operations, tensors = operations_of(Plain([-1.0] * 2, [1.0] * 2), 2)
    assert operations == [["subtract", 0, "policy.0"], ["tanh", 1], ["divide", 2, "policy.1"]]
    assert {name: one.tolist() for name, one in tensors.items()} == {"policy.0": [-1.0, -1.0], "policy.1": [1.0]}


class Still(Plain):
    """The same action everywhere."""

    def forward(self, obs):
        return self.low / 2


def test_an_action_that_depends_on_nothing_is_told():
    with pytest.raises(InputError, match="does not depend on the observation. Use --format onnx"):
        operations_of(Still([-1.0] * 2, [1.0] * 2), 2)


def test_a_policy_that_answers_its_observation_needs_no_operation():
    operations, tensors = operations_of(FunctionPolicy(lambda x: x, [-1.0], [1.0]), 1)
    assert [word for word, *_ in operations] == ["maximum", "minimum"] and len(tensors) == 2
    assert np.array_equal(Program([], {}, 3, 3)(np.ones(3, np.float32)), np.ones(3))
