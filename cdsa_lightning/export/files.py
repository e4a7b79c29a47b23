"""The formats, and how a file of one is written: read back and compared before it takes its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from cdsa_lightning import __version__
from cdsa_lightning.errors import InputError, unknown_name
from cdsa_lightning.export.parity import Parity, check
from cdsa_lightning.export.subject import Subject
from cdsa_lightning.files import whole_file

__all__ = ["FORMATS", "Exported", "Format", "export", "read_metadata"]


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Args:
        suffix: Of its files.
        module: Of this package; has `build`, `reader` and `metadata`.
        runtime: What reads it back.
        packages: Whose versions the file records.
    """

    suffix: str
    module: str
    runtime: str
    packages: tuple[str, ...] = ("torch",)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(import_module(f"cdsa_lightning.export.{self.module}"), name)


FORMATS = {
    "safetensors": Format(".safetensors", "safetensors", "NumPy", ("numpy",)),
    "onnx": Format(".onnx", "onnx", "onnxruntime", ("torch", "onnx", "onnxruntime")),
    "torchscript": Format(".pt", "torchscript", "torch.jit"),
    "pt2": Format(".pt2", "program", "torch.export"),
}


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        format: A key of `FORMATS`.
        path: The file.
        parity: What was found when it was read back.
        ask: Its runtime: observations [B, S] and actions [B, A] (which a policy ignores) to [B, A], all NumPy.
    """

    format: str
    path: Path
    parity: Parity
    ask: Callable[..., Any]


def get_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]


def export(subject: Subject, format: str, path: str | Path) -> Exported:
    """Write one file, and see that it computes what PyTorch computes.

    Args:
        subject: What is written.
        format: A key of `FORMATS`.
        path: The file.

    Raises:
        InputError: an unknown format, a missing package, something that this format cannot hold, a file that cannot be
            written, or one whose answers are not PyTorch's. What was at `path` is then still there.
    """
    path, kind = Path(path), get_format(format)
    if path.suffix != kind.suffix:
        raise InputError(f"A {format} file ends in {kind.suffix}, got {str(path)!r}.")
    write = kind.build(subject)
    with whole_file(path, "the exported file") as place:
        write(place, subject.about)
        ask = kind.reader(place, subject)
        parity = check(subject, ask, format)
        versions = {"cdsa_lightning": __version__, **{name: metadata.version(name) for name in kind.packages}}
        write(place, {**subject.about, "parity": parity.to_dict(), "runtime": kind.runtime, "versions": versions})
        again = check(subject, kind.reader(place, subject), format)
        if again != parity:
            raise InputError(f"The {format} file answers differently when it is read again. Nothing was written.")
    return Exported(format, path, parity, ask)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What an exported file says about itself: task, coefficients, parity, versions.

    Raises:
        InputError: it was not written by `cdsa export`.
    """
    path = Path(path)
    for kind in FORMATS.values():
        if path.suffix == kind.suffix:
            try:
                return kind.metadata(path)
            except (KeyError, OSError, RuntimeError, json.JSONDecodeError) as error:
                raise InputError(f"{path} was not written by 'cdsa export' ({type(error).__name__}).") from None
    raise InputError(f"{path} is no exported file: they end in {', '.join(k.suffix for k in FORMATS.values())}.")
