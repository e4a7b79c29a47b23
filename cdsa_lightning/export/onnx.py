"""ONNX: a graph of standard operators, the batch free, everything that is said about it in `metadata_props`."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cdsa_lightning.errors import InputError
from cdsa_lightning.export.program import exported, output_name
from cdsa_lightning.export.subject import Subject
from cdsa_lightning.runtime.sessions import KEY, OnnxCorrector, OnnxPolicy, open_session

__all__ = ["KEY", "build", "metadata", "reader"]

_OPSET = 18  # the one that PyTorch's exporter writes in; others it converts to afterwards, and PyTorch 2.9 fails at it


def build(subject: Subject) -> Callable[[Path, dict[str, Any]], None]:
    """The graph, and how to write it with what is said about it.

    Raises:
        InputError: a package is missing, or an operator of the policy has no counterpart.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--format onnx needs the package {error.name}, which is not installed: "
            'pip install "cdsa-lightning[export]"'
        ) from None
    program = exported(subject)
    try:
        with _silently():
            made = torch.onnx.export(
                program, dynamo=True, opset_version=_OPSET, output_names=[output_name(subject)], verbose=False
            )
    except Exception as error:  # The converter meets a stranger's network and may fail in any way.
        raise InputError(
            f"The graph cannot be written as ONNX: {str(error).strip().splitlines()[0][:300]}. Use --format "
            "torchscript or pt2, or export the corrector alone."
        ) from error
    model = made.model_proto  # type: ignore[union-attr]
    for node in model.graph.node:  # stack traces with the paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:], model.graph.metadata_props[:]
    batch = {model.graph.input[0].type.tensor_type.shape.dim[0].dim_param}
    for entry in (*model.graph.input, *model.graph.output):
        del entry.metadata_props[:]
        for size in entry.type.tensor_type.shape.dim:
            size.dim_param = "batch" if size.dim_param in batch else size.dim_param

    def write(path: Path, about: dict[str, Any]) -> None:
        del model.metadata_props[:]
        model.metadata_props.add(key=KEY, value=json.dumps(about))
        path.write_bytes(model.SerializeToString())

    return write


@contextlib.contextmanager
def _silently() -> Iterator[None]:
    """Without what the converter says about packages that it could also use."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def reader(path: Path, subject: Subject) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The file as onnxruntime answers it."""
    if subject.policy is None:
        return OnnxCorrector(path).correct
    policy = OnnxPolicy(path)
    return lambda obs, action: policy.act(obs)


def metadata(path: Path) -> dict[str, Any]:
    """What the file says about itself."""
    return json.loads(open_session(path).get_modelmeta().custom_metadata_map[KEY])
