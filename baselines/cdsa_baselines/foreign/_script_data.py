r"""The attributes of a TorchScript module as data: the pickles ``data.pkl`` and ``constants.pkl`` of its archive.

They are walked as `cdsa_lightning.torch_files` walks a pickle; objects with attributes are understood besides. No name
in the file is looked up anywhere: a class is its name, an object is that name and its attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cdsa_lightning.errors import InputError
from cdsa_lightning.storages import Storages
from cdsa_lightning.torch_files import Foreign, Machine, Name

__all__ = ["Object", "Stored", "by_name", "named", "read_values"]

LISTS = {f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor")}
TAG = "torch.jit._pickle restore_type_tag"


@dataclass(eq=False)
class Object:
    """An instance of a class that the archive's code defines.

    Args:
        cls: Qualified name, for instance ``__torch__.torch.nn.modules.linear.Linear``.
        fields: Its attributes.
    """

    cls: str
    fields: dict[str, Any] = field(default_factory=dict)


class Stored(str):
    """The name of a tensor that is kept elsewhere."""


def read_values(content: bytes, storages: Storages, source: str) -> Any:
    """What the pickle `content` writes down, with `Object` for instances of the archive's classes.

    Args:
        content: The pickle.
        storages: The numbers of the tensors.
        source: Where it comes from, for the errors.

    Raises:
        InputError: it is damaged, or holds anything but plain values, tensors and objects.
    """
    try:
        return _Machine(storages).run(content)
    except Foreign as error:
        raise InputError(
            f"{source} was refused: it asks for a call of {error.names[0][:80]!r}, and only tensors and plain values "
            "are read. Nothing in it was executed."
        ) from None
    except Exception as error:  # A damaged or hostile program can break the parser and this machine in any way.
        raise InputError(f"{source} is damaged: {type(error).__name__}: {error}. Export it anew.") from error


class _Machine(Machine):
    """One that knows objects too."""

    def parts(self, value: Any) -> list[Any]:
        """The attributes of an object are its entries; each object is met once, as `by_name` keeps it shared."""
        return list(value.fields.values()) if isinstance(value, Object) else super().parts(value)

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """TorchScript's own words for a typed list, besides."""
        if isinstance(function, Name) and (function.text in LISTS or function.text == TAG):
            return arguments[0]
        return super().call(function, arguments)

    def new(self, cls: Any, arguments: Any) -> Object:
        """An object without attributes so far."""
        if not isinstance(cls, Name) or not cls.text.startswith("__torch__") or arguments != ():
            raise ValueError(f"an object of {cls!r}")
        if cls.text.startswith("__torch__.torch.classes"):
            raise ValueError(f"an object of the native class {cls.text!r}, which only PyTorch's loader could restore")
        return Object(cls.text.replace(" ", "."))

    def build(self, target: Any, state: Any) -> Object:
        """The attributes of an object; anything but a dictionary would be for its own ``__setstate__``."""
        if not isinstance(target, Object) or type(state) is not dict or not all(isinstance(key, str) for key in state):
            raise ValueError("an object restores itself by __setstate__, which is not run")
        target.fields = state
        return target


def by_name(value: Any, path: str, found: dict[str, Tensor], seen: dict[int, Any]) -> Any:
    """`value` in eval(), with tensors replaced by their names.

    Args:
        value: What `read_values` returned.
        path: Its own name.
        found: Collects the tensors.
        seen: Objects that were met before, which stay shared.
    """
    if isinstance(value, Tensor):
        found[path] = value
        return Stored(path.removeprefix("."))
    if isinstance(value, list | tuple):
        return type(value)(by_name(item, f"{path}.{number}", found, seen) for number, item in enumerate(value))
    if isinstance(value, dict):
        return {key: by_name(item, f"{path}.{key}", found, seen) for key, item in value.items()}
    if isinstance(value, Object):
        if id(value) not in seen:
            seen[id(value)] = copy = Object(value.cls)
            copy.fields = {key: by_name(item, f"{path}.{key}", found, seen) for key, item in value.fields.items()}
            if "training" in copy.fields:
                copy.fields["training"] = False
        return seen[id(value)]
    return value


def named(value: Any) -> dict[str, Tensor]:
    """The tensors that a forward returns, by name, or by number where they have no names."""
    if isinstance(value, Object):
        value = value.fields
    if isinstance(value, Tensor):
        return {"0": value}
    items = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list | tuple) else ())
    return {str(name): item for name, item in items if isinstance(item, Tensor)}
