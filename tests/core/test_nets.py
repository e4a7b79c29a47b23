"""Stacked networks: row l of the input meets network l, and nothing else."""

import math

import torch
from torch import nn

from cdsa_lightning.core.nets import LeakyReLU, StackedLinear, inverse_dynamics_net, score_net, stacked_mlp
from cdsa_lightning.core.seeds import init_generators


def generators(count):
    return init_generators(range(count))


def test_a_stacked_layer_is_one_linear_layer_per_row():
    stacked, x = StackedLinear(5, 3, generators(4)), torch.randn(4, 7, 5)
    for row in range(4):
        plain = nn.Linear(5, 3)
        plain.weight.data, plain.bias.data = stacked.weight[row].T, stacked.bias[row, 0]
        torch.testing.assert_close(stacked(x)[row], plain(x[row]))


def test_weights_fill_the_interval_of_a_plain_linear_layer():
    layer, bound = StackedLinear(400, 300, generators(1)), 1 / math.sqrt(400)
    for values in (layer.weight, layer.bias):
        assert values.abs().max() <= bound
        torch.testing.assert_close(values.std().item(), bound / math.sqrt(3), rtol=0.1, atol=0)


def test_each_network_is_initialised_as_it_would_be_alone():
    stacked = score_net(4, 2, generators(3))
    alone = score_net(4, 2, generators(3)[2:])
    for many, one in zip(stacked.parameters(), alone.parameters(), strict=True):
        assert torch.equal(many[2:], one)


def test_rows_pick_networks():
    net, x = score_net(4, 2, generators(6)), torch.randn(6, 5, 4)
    torch.testing.assert_close(net(x[2:4], slice(2, 4)), net(x)[2:4])


def test_a_network_sees_its_own_row_alone():
    net, x = score_net(4, 2, generators(2)), torch.randn(2, 5, 4)
    other = torch.stack((x[0], x[1] + 1))
    assert torch.equal(net(x)[0], net(other)[0])
    assert not torch.allclose(net(x)[1], net(other)[1])


def test_widths_and_slopes_are_those_of_table_3():
    score, inverse = score_net(14, 3, generators(1)), inverse_dynamics_net(11, 3, generators(1))
    widths = [[tuple(layer.weight.shape[1:]) for layer in net.layers] for net in (score, inverse)]
    assert widths == [[(14, 32), (32, 128), (128, 32), (32, 3)], [(22, 128), (128, 128), (128, 128), (128, 3)]]
    assert (score.activation.slope, inverse.activation.slope) == (0.1, 0.2)


def test_leaky_relu_keeps_positive_values_and_scales_negative_ones():
    torch.testing.assert_close(LeakyReLU(0.1)(torch.tensor([-2.0, 3.0])), torch.tensor([-0.2, 3.0]))


def test_the_activation_works_in_place_but_never_on_the_input():
    net, x = stacked_mlp((3, 4, 2), LeakyReLU(0.1), generators(1)), torch.randn(1, 6, 3)
    before = x.clone()
    net(x)
    assert torch.equal(x, before)


def test_a_frozen_network_passes_gradients_on_and_keeps_none():
    net, x = score_net(4, 2, generators(2)), torch.randn(2, 5, 4, requires_grad=True)
    torch.testing.assert_close(net(x, frozen=True), net(x))
    (wanted,) = torch.autograd.grad(net(x).sum(), [x])
    gradients = torch.autograd.grad(net(x, frozen=True).sum(), [x, *net.parameters()], allow_unused=True)
    torch.testing.assert_close(gradients[0], wanted)
    assert all(gradient is None for gradient in gradients[1:])


def test_layer_norms_stand_before_the_activations():
    stacked, x = stacked_mlp((5, 8, 3), nn.ReLU(), generators(3), layer_norm=True), torch.randn(3, 7, 5)
    for norm in stacked.norms:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    for row in range(3):
        plain = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))
        for own, layer in ((plain[0], stacked.layers[0]), (plain[3], stacked.layers[1])):
            own.weight.data, own.bias.data = layer.weight[row].T, layer.bias[row, 0]
        plain[1].weight.data, plain[1].bias.data = stacked.norms[0].weight[row, 0], stacked.norms[0].bias[row, 0]
        torch.testing.assert_close(stacked(x)[row], plain(x[row]), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(
            stacked(x[row : row + 1], slice(row, row + 1))[0], plain(x[row]), atol=1e-6, rtol=1e-5
        )
