r"""What an exported file computes: one training seed, one choice of coefficients, any number of rows.

    corrector:  obs [B, S], action [B, A] -> action [B, A]          policy:  obs [B, S] -> action [B, A]

The corrector's part is `runtime.folded` in torch's operations: plain matrices, products of two axes, no branches, which
every format takes and every runtime is quick with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.runtime.corrector import as_arrays
from cdsa_lightning.runtime.folded import Folded, Operations, corrected
from cdsa_lightning.runtime.folding import Source, fold

__all__ = ["CorrectorGraph", "PolicyGraph"]


class _Torch(Operations):
    """`Operations` of torch, none of which asks for a value."""

    def affine(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.addmm(bias, x, weight) if weight.ndim == 2 else torch.matmul(x, weight) + bias

    def leaky(self, x: Tensor, slope: float) -> Tensor:
        return nn.functional.leaky_relu(x, slope)

    def average(self, x: Tensor) -> Tensor:
        return x.mean(0)

    def take(self, x: Tensor, index: Tensor) -> Tensor:
        return torch.index_select(x, -1, index)

    def split(self, x: Tensor, widths: Sequence[int]) -> Sequence[Tensor]:
        return torch.split(x, list(widths), -1)

    def bound(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, low), high)

    def exceeds(self, x: Tensor, threshold: float) -> Tensor:
        return (x.square().sum(-1, keepdim=True).sqrt() > threshold).to(x.dtype)

    def shorten(self, a: Tensor, base: Tensor, longest: float, low: Tensor, high: Tensor) -> Tensor:
        shift = a - base
        length = shift.square().sum(-1, keepdim=True).sqrt()
        return torch.where(
            length > longest, self.bound(base + shift * (longest / length.clamp_min(1e-12)), low, high), a
        )

    def finite(self, a: Tensor, base: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # A sum is finite where all are; three operators, where asking each entry takes seven in ONNX.
        return torch.where(a.abs().sum(-1, keepdim=True) < float("inf"), a, self.bound(base, low, high))


class CorrectorGraph(nn.Module):
    """The correction alone.

    Args:
        corrector: Of one training seed, or an ensemble.
        coefficients: Multiplied into the matrices.
    """

    inputs = ("obs", "action")

    def __init__(self, corrector: Corrector, coefficients: Coefficients) -> None:
        super().__init__()
        nets = corrector.networks
        tensors = {name: tensor.detach().cpu().numpy() for name, tensor in corrector.state_dict().items()}
        source = Source(tensors, nets.settings.to_dict(), nets.state_index, nets.ensemble)

        def convert(array: Any) -> Tensor:
            return torch.from_numpy(array).to(torch.long if array.dtype.kind == "i" else torch.float32).contiguous()

        self._folded: Folded = as_arrays(fold(source, coefficients), convert)
        self._operations = _Torch()

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return corrected(self._folded, self._operations, obs, action)


class PolicyGraph(nn.Module):
    """A policy and its correction.

    Args:
        policy: Of one training seed, on the CPU.
        corrector: What follows it.
    """

    inputs = ("obs",)

    def __init__(self, policy: Policy, corrector: CorrectorGraph) -> None:
        super().__init__()
        self.policy, self.corrector = policy, corrector

    def forward(self, obs: Tensor) -> Tensor:
        return self.corrector(obs, self.policy(obs))
