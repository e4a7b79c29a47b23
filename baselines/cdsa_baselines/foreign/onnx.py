r"""Networks saved as ONNX (Open Neural Network Exchange): any graph obs [B, S] -> [B, A], by onnxruntime on the CPU.

A model ``net.onnx`` lists operators by name; those of the standard are functions of tensors. Refused are operators of
other makers, those that draw random numbers, and weights in any file but one beside the model (where PyTorch's exporter
puts them, ``net.onnx.data``), which is read here: onnxruntime gets one block of bytes and opens no file.

A model with a fixed batch of one row is run row by row, which is exact and slow. One for another fixed size is refused,
since such a graph may treat its rows jointly. ``net.json`` beside the model may say how to use the network, see
`cdsa_baselines.foreign._program`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cdsa_baselines._files import LIMIT, checkpoint_file
from cdsa_baselines._layers import require_widths
from cdsa_baselines.foreign._onnx_limits import ENDLESS, messages, packages, require_few, require_text, try_out
from cdsa_baselines.foreign._program import chosen, first_line, program_policy, read_sidecar
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.tasks import Task

__all__ = ["inspect", "load"]

SUFFIXES = (".onnx",)
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
EXPORT = "torch.onnx.export(actor.eval(), (torch.zeros(2, S),), PATH, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"


class _Model(NamedTuple):
    """A file, read and checked."""

    content: bytes
    input_name: str
    batch: int | None
    obs_dim: int | None
    outputs: dict[str, int | None]
    details: dict[str, str]


class _Session(nn.Module):
    """An onnxruntime session; it copies and pickles as the bytes of its model.

    Args:
        content: The model, checked.
        input_name: Of the observations.
        outputs: Names of the outputs.
        by_row: Whether the model takes one row alone.
    """

    def __init__(self, content: bytes, input_name: str, outputs: list[str], by_row: bool) -> None:
        super().__init__()
        self.content, self.input_name, self.outputs, self.by_row = content, input_name, outputs, by_row
        self._open()

    def _open(self) -> None:
        onnxruntime = packages()[1]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 4  # what goes wrong is raised as well
        self.session = onnxruntime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])

    def forward(self, obs: Tensor) -> dict[str, Tensor]:
        rows = obs.detach().to("cpu", torch.float32).numpy()
        parts = [rows[number : number + 1] for number in range(len(rows))] if self.by_row else [rows]
        answers = [self.session.run(self.outputs, {self.input_name: np.ascontiguousarray(part)}) for part in parts]
        joined = [np.concatenate(answer) if self.by_row else answer[0] for answer in zip(*answers, strict=True)]
        return {name: torch.as_tensor(array).to(obs.device) for name, array in zip(self.outputs, joined, strict=True)}

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._open()


def load(checkpoint: Path | None, task: Task) -> Policy:
    """Any network saved as ONNX (needs the extra `onnx`).

    Args:
        checkpoint: The ``.onnx`` file, with its ``.data`` beside it where it has one.
        task: Gives the dimensions to check and the action bounds.

    Raises:
        InputError: no such model, damaged, operators beyond the standard, several inputs, another number type than
            float32, a fixed batch of more than one row, made for other dimensions, or onnxruntime is not installed.
    """
    path = checkpoint_file("onnx", checkpoint, SUFFIXES)
    model, sidecar = _read(path), read_sidecar(path)
    if model.batch not in (None, 1):
        raise InputError(
            f"{str(path)!r} was exported for batches of exactly {model.batch} observations. Export it for any "
            f"number: {EXPORT}."
        )
    action_dim = model.outputs.get(chosen(model.outputs, sidecar) or "")
    if model.obs_dim is not None and model.obs_dim != task.obs_dim or action_dim not in (None, task.action_dim):
        require_widths(path, model.obs_dim or task.obs_dim, action_dim or task.action_dim, task)
    try:
        try_out(model.content, model.input_name, (model.batch or 2, task.obs_dim))
        session = _Session(model.content, model.input_name, list(model.outputs), by_row=model.batch == 1)
    except InputError:
        raise
    except Exception as error:  # onnxruntime has an error class for each kind of damage.
        raise InputError(f"{str(path)!r} is refused by onnxruntime: {first_line(error)}. Export it anew.") from error
    return program_policy(session, path, task, sidecar, on_host=True)


def inspect(path: Path) -> Inspection | None:
    """What an ONNX model holds; None where `path` is something else.

    Raises:
        InputError: it is one, but cannot be used.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        return None
    model, sidecar = _read(path), read_sidecar(path)
    batch = "any" if model.batch is None else str(model.batch)
    notes = {None: (), 1: ("Exported for one row: acts row by row, slowly. Export it for any number.",)}
    return Inspection(
        format="ONNX model",
        algorithm="any network",
        obs_dim=model.obs_dim,
        action_dim=model.outputs.get(chosen(model.outputs, sidecar) or ""),
        statistics=sidecar.statistics,
        details={
            "batch": batch,
            "outputs": ", ".join(f"{name} [{batch}, {width or '?'}]" for name, width in model.outputs.items()),
            **model.details,
            **sidecar.details,
        },
        notes=notes.get(model.batch, (f"Exported for {batch} rows alone; cannot act. Use {EXPORT}.",)),
    )


def _read(path: Path) -> _Model:
    onnx, source = packages()[0], repr(str(path))
    if path.stat().st_size > LIMIT:
        raise InputError(f"{source} holds {path.stat().st_size:,} bytes, more than the limit of {LIMIT:,}.")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # The parser's own classes, and whatever hostile bytes bring out of it.
        raise InputError(f"{source} is not an ONNX model, or it is damaged: {first_line(error)}.") from error
    if not model.graph.node:
        raise InputError(f"{source} is not an ONNX model: it holds no graph. Write one with {EXPORT}.")
    # What is neither read here nor needed to act goes: onnxruntime shall see what was checked, and that alone.
    model.DiscardUnknownFields()
    for extra in ("metadata_props", "training_info"):
        model.ClearField(extra)
    parts = list(messages(model))
    require_text(parts, source)
    require_few(model, source)
    operators = _require_standard(onnx, model, [part for part in parts if isinstance(part, onnx.NodeProto)], source)
    room = LIMIT
    for tensor in (part for part in parts if isinstance(part, onnx.TensorProto)):
        room -= _take_in(onnx, tensor, path, room)
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, or worse where the file is hostile.
        raise InputError(f"{source} is not a valid ONNX model: {first_line(error)}. Export it anew.") from error
    name, batch, obs_dim = _input(onnx, model.graph, source)
    versions = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    details = {
        "opset": versions,
        "producer": f"{model.producer_name} {model.producer_version}".strip() or "unknown",
        "operators": ", ".join(sorted(operators)),
    }
    outputs = {entry.name: _sizes(entry)[-1:] for entry in model.graph.output}
    widths = {name: size[0] if size else None for name, size in outputs.items()}
    return _Model(model.SerializeToString(), name, batch, obs_dim, widths, details)


def _require_standard(onnx: Any, model: Any, nodes: list[Any], source: str) -> set[str]:
    """The operators used; refuses those that are not the standard's, nor defined in the file itself by such."""
    own = {(function.domain, function.name) for function in model.functions}
    for node in nodes:
        if node.op_type in ENDLESS:
            raise InputError(f"{source} was refused: it repeats parts of itself ({node.op_type}). Export it unrolled.")
        if node.op_type in RANDOM:
            raise InputError(f"{source} draws random numbers ({node.op_type}). Export the deterministic network alone.")
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            raise InputError(
                f"{source} was refused: it calls {node.domain[:80]}::{node.op_type[:80]}, and only operators of the "
                "ONNX standard are run. Nothing in it was executed. Export it without custom operators."
            )
    return {node.op_type for node in nodes}


def _take_in(onnx: Any, tensor: Any, path: Path, room: int) -> int:
    """Put the numbers that `tensor` keeps in a file beside the model into the model itself; how many bytes they are."""
    if not tensor.external_data and tensor.data_location != onnx.TensorProto.EXTERNAL:
        return 0
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"{str(path)!r} keeps {tensor.name[:80]!r} in {location[:200]!r}"
    beside = path.parent / location
    if location in ("", "..") or Path(location).name != location or "\\" in location or beside.is_symlink():
        raise InputError(f"{where}, and weights are read from a plain file beside the model alone. Nothing was opened.")
    if not beside.is_file():
        raise InputError(f"{where}, which is not beside it. Copy that file too, or export with external_data=False.")
    try:
        start, size = int(entries.get("offset", 0)), beside.stat().st_size
        length = int(entries.get("length", size - start))
    except ValueError as error:
        raise InputError(f"{where} at a place that is no number: {error}.") from None
    if not 0 <= start <= start + length <= min(size, start + room):
        raise InputError(
            f"{where}, bytes {start} to {start + length}; that file holds {size}, and all weights may take {LIMIT:,}."
        )
    with beside.open("rb") as file:
        file.seek(start)
        tensor.raw_data = file.read(length)
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT
    return length


def _input(onnx: Any, graph: Any, source: str) -> tuple[str, int | None, int | None]:
    """Name, B and S of the only input; None for sizes that are free."""
    weights = {tensor.name for tensor in graph.initializer}  # old releases list them among the inputs
    inputs = [entry for entry in graph.input if entry.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs)[:200]
        raise InputError(f"{source} takes {len(inputs)} inputs ({names}), expected the observations [B, S] alone.")
    kind = inputs[0].type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        known = onnx.TensorProto.DataType
        found = known.Name(kind).lower() if kind in known.values() else f"type {kind}"
        raise InputError(f"{source} takes observations as {found}, expected float (32 bits). Export it in float32.")
    sizes = _sizes(inputs[0])
    if len(sizes) != 2:
        raise InputError(f"{source} takes observations of {len(sizes)} axes, expected [B, S].")
    return inputs[0].name, sizes[0], sizes[1]


def _sizes(entry: Any) -> list[int | None]:
    """The sizes of an input or output; None for one that is free."""
    return [size.dim_value or None for size in entry.type.tensor_type.shape.dim]
