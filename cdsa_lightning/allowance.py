r"""How much memory and how many operations a stranger's numbers may ask PyTorch for, counted before they are given.

Within ``with Allowance(entries):`` every operation is first run on shapes alone (the meta device); where all results
together would have more than `entries` entries, it is refused and nothing is allocated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from cdsa_lightning.errors import InputError

__all__ = ["Allowance"]

META = torch.device("meta")


class Allowance(TorchDispatchMode):
    """Counts what is made while it is entered.

    Args:
        entries: Entries of all results together.
        calls: Operations.

    Raises:
        InputError: more is asked for.
    """

    def __init__(self, entries: int, calls: int = 20_000) -> None:
        super().__init__()
        self.entries, self.calls = entries, calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = 0 if func._schema.is_mutable else _entries(func, args, kwargs)
        self._spend(known or 0, func)
        result = func(*args, **kwargs)
        if known is None:  # it depends on values, and is counted when it is there
            self._spend(_count(result), func)
        return result

    def _spend(self, entries: int, func: Any) -> None:
        self.entries -= entries
        self.calls -= 1
        if self.entries < 0 or self.calls < 0:
            what = "entries" if self.entries < 0 else "operations"
            raise InputError(f"it asks for more {what} than a network of its weights needs, first in {func}.")


def _entries(func: Any, args: Any, kwargs: Any) -> int | None:
    """Entries of the results of a call, of which nothing is computed; None where only values tell."""
    leaves = tree_leaves((args, kwargs))
    if any(isinstance(leaf, Tensor) and leaf.device.type == "meta" for leaf in leaves):
        return 0
    if str(func).startswith("aten.repeat_interleave.Tensor"):
        raise InputError(f"{func} is not supported: how much it makes is told by values alone.")
    if any(argument.name == "device" for argument in func._schema.arguments):
        given = any(isinstance(leaf, torch.device) for leaf in tree_leaves(args))
        kwargs = kwargs if given else kwargs | {"device": META}
    try:
        return _count(func(*tree_map(_hollow, args), **tree_map(_hollow, kwargs)))
    except (NotImplementedError, RuntimeError):  # no shape without values, or a mistake that the call itself tells
        return None


def _hollow(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return leaf.to(META)
    return META if isinstance(leaf, torch.device) else leaf


def _count(result: Any) -> int:
    return sum(leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
