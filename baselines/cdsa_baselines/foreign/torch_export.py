r"""Networks saved by `torch.export.save`: any module with forward(obs [B, S]) -> [B, A], as a graph of operators.

An archive ``net.pt2`` holds a graph in JSON and raw weights. `torch.export.load` would also unpickle example inputs and
constants, evaluate symbolic expressions, resolve any name below ``torch`` and load compiled libraries; here graph and
weights are read as data (`_graph`) and run as a tape over an allow-list of operators.

A graph exported for batches of one row is mapped over the rows (`torch.vmap`), which is exact. One exported for another
fixed size is refused, since such a graph may treat its rows jointly. ``net.json`` beside the archive may say how to use
the network, see `cdsa_baselines.foreign._program`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cdsa_baselines._files import checkpoint_file
from cdsa_baselines._layers import require_widths
from cdsa_baselines.foreign._archive import parse_json, read_archive, torch_root
from cdsa_baselines.foreign._graph import NUMBER_TYPES, Graph, argument
from cdsa_baselines.foreign._program import Tensors, chosen, first_line, program_policy, read_sidecar
from cdsa_baselines.foreign._tape import Slot, Tape
from cdsa_baselines.foreign._zip import read_state_dict
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.storages import DTYPES, Storages
from cdsa_lightning.tasks import Task
from cdsa_lightning.untrusted import room

__all__ = ["inspect", "load"]

SUFFIXES = (".pt2",)
MAJOR = 8
"""Version of the schema that this reader knows: PyTorch 2.8 and later."""
INPUTS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
"""Kinds of tensors that a graph takes besides the observations -> the entry that names them."""
EXPORT = "torch.export.export(actor.eval(), (torch.zeros(2, S),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"


class _Archive(NamedTuple):
    """A file, read and checked."""

    program: nn.Module
    tensors: Tensors
    batch: int | None
    """Rows that it takes; None for any number."""
    widths: tuple[int | None, dict[str, int | None]]
    operators: list[str]
    version: str


def load(checkpoint: Path | None, task: Task) -> Policy:
    """Any network saved by torch.export.save (.pt2).

    Args:
        checkpoint: The ``.pt2`` archive.
        task: Gives the dimensions to check and the action bounds.

    Raises:
        InputError: no such archive, damaged, a graph beyond an allow-list of operators, pickled or compiled parts, a
            fixed batch of more than one row, or made for other dimensions.
    """
    path = checkpoint_file("torch_export", checkpoint, SUFFIXES)
    archive, sidecar = _read(path), read_sidecar(path)
    archive.tensors.require_numbers(repr(str(path)))
    if archive.batch not in (None, 1):
        raise InputError(
            f"{str(path)!r} was exported for batches of exactly {archive.batch} observations. Export it for any "
            f"number: {EXPORT}."
        )
    obs_dim, outputs = archive.widths
    action_dim = outputs.get(chosen(outputs, sidecar) or "")
    if obs_dim is not None and action_dim is not None:
        require_widths(path, obs_dim, action_dim, task)
    return program_policy(archive.program, path, task, sidecar)


def inspect(path: Path) -> Inspection | None:
    """What a torch.export archive holds; None where `path` is something else.

    Raises:
        InputError: it is one, but cannot be used.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        return None
    archive, sidecar = _read(path), read_sidecar(path)
    obs_dim, outputs = archive.widths
    batch = "any" if archive.batch is None else str(archive.batch)
    return Inspection(
        format="torch.export archive",
        algorithm="any network",
        obs_dim=obs_dim,
        action_dim=outputs.get(chosen(outputs, sidecar) or ""),
        statistics=sidecar.statistics,
        details={
            "PyTorch": archive.version,
            "batch": batch,
            "outputs": ", ".join(f"{name} [{batch}, {width or '?'}]" for name, width in outputs.items()),
            "operators": ", ".join(archive.operators),
            **sidecar.details,
        },
        notes=() if archive.batch in (None, 1) else (f"Exported for {batch} rows alone; cannot act. Use {EXPORT}.",),
    )


def _read(path: Path) -> _Archive:
    source = repr(str(path))
    root = torch_root(path, "archive_format")
    if root is None:
        raise InputError(
            f"{source} is not a torch.export archive of PyTorch 2.8 or later, or it is damaged. Write one with "
            f"torch.export.save({EXPORT}, PATH)."
        )
    # Example inputs are pickled, and of no use here.
    members = read_archive(path, root, lambda name: not name.startswith("data/sample_inputs/"))
    models = [name for name in members if name.startswith("models/") and name.endswith(".json")]
    if any(name.startswith("data/aotinductor/") for name in members):
        raise InputError(f"{source} was refused: it holds compiled machine code, never run here. Save {EXPORT}.")
    if len(models) != 1:
        raise InputError(f"{source} holds {len(models)} programs ({', '.join(models)[:200]}), expected one.")
    program = parse_json(members[models[0]], f"{models[0]!r} in {source}")
    name = models[0].removeprefix("models/").removesuffix(".json")
    try:
        _require_version(program)
        weights, constants = (_payloads(members, name, kind, source) for kind in ("weights", "constants"))
        return _archive(program, weights, constants)
    except InputError as error:
        raise InputError(f"{source} was refused: {error} Nothing in it was executed.") from None
    except Exception as error:  # Malformed JSON breaks the walk through it in any way.
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{source} is damaged ({reason}). Export it anew.") from error


def _require_version(program: dict[str, Any]) -> None:
    found = program["schema_version"]["major"]
    if found != MAJOR:
        made_by = str(program.get("torch_version"))[:40]
        raise InputError(f"its schema version is {found!r} (PyTorch {made_by}), expected {MAJOR}; export it anew.")


def _payloads(members: dict[str, bytes], name: str, kind: str, source: str) -> dict[str, Tensor]:
    """The tensors of one kind (``weights`` or ``constants``) by name."""
    folder = f"data/{kind}/"
    saved = f"{folder}{name}.pt"
    if saved in members:  # PyTorch 2.8 wrote a state dict.
        return read_state_dict(members[saved], f"{saved!r} in {source}")
    config = parse_json(members[f"{folder}{name}_{kind}_config.json"], f"the configuration in {source}")["config"]
    contents = {key.removeprefix(folder): content for key, content in members.items() if key.startswith(folder)}
    storages = Storages(contents, room(sum(map(len, contents.values()))))
    tensors = {}
    for title, payload in config.items():
        meta = payload["tensor_meta"]
        if payload["use_pickle"] or meta is None:
            raise InputError(f"{title[:80]!r} of {folder} is a pickled object, and pickles are never opened.")
        sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
        dtype = DTYPES[NUMBER_TYPES[meta["dtype"]]]
        tensors[title] = storages.tensor(payload["path_name"], dtype, meta["storage_offset"]["as_int"], sizes, strides)
    return tensors


def _archive(program: dict[str, Any], weights: dict[str, Tensor], constants: dict[str, Tensor]) -> _Archive:
    module = program["graph_module"]
    given, tensors, obs = {}, {}, []
    for spec in module["signature"]["input_specs"]:
        ((kind, value),) = spec.items()
        if kind == "user_input":
            obs.append(value["arg"])
            continue
        if kind not in INPUTS:
            raise InputError(f"it takes a {kind} besides tensors.")
        title = value[INPUTS[kind]]
        given[value["arg"]["name"]] = title
        tensors[title] = weights[title] if title in weights else constants[title]
    if len(obs) != 1 or "as_tensor" not in obs[0]:
        raise InputError(f"it takes {len(obs)} inputs, expected the observations alone.")
    kinds = sorted({kind for spec in module["signature"]["output_specs"] for kind in spec} - {"user_output"})
    if kinds:
        raise InputError(f"each call of it leaves something behind ({', '.join(kinds)[:80]}). Export it after .eval().")

    name = obs[0]["as_tensor"]["name"]
    graph = Graph([name, *given], module["graph"]["nodes"])
    results = [argument(output, graph.slots) for output in module["graph"]["outputs"]]
    if not all(isinstance(result, Slot) for result in results):
        raise InputError("it returns something besides tensors.")
    outputs = dict(zip(_output_names(module, len(results)), results, strict=True))
    held = Tensors({f"{number}.{title}": tensors[title] for number, title in enumerate(given.values())})
    tape = Tape(held, graph.calls, graph.size, outputs)
    sizes = module["graph"]["tensor_values"]
    batch, obs_dim = _batch_and_width(sizes[name]["sizes"])
    widths = {}
    for title, output in zip(outputs, module["graph"]["outputs"], strict=True):
        widths[title] = _batch_and_width(sizes[output["as_tensor"]["name"]]["sizes"])[1]
    version = str(program.get("torch_version", "unknown"))
    net = _Rows(tape) if batch == 1 else tape
    return _Archive(net, held, batch, (obs_dim, widths), sorted(graph.operators), version)


def _batch_and_width(sizes: list[dict[str, Any]]) -> tuple[int | None, int | None]:
    """B and the last size of a tensor [B, N]; None for one that depends on the batch."""
    if len(sizes) != 2:
        raise InputError(f"it takes or returns a tensor of {len(sizes)} axes, expected [B, S] and [B, A].")
    batch, width = (size.get("as_int") for size in sizes)
    return batch, width


def _output_names(module: dict[str, Any], count: int) -> list[str]:
    """Keys of a dictionary, entries of a named tuple, else numbers."""
    numbers = [str(number) for number in range(count)]
    signature = module["module_call_graph"][0]["signature"]
    spec = parse_json(signature["out_spec"], "its outputs")[1]
    named = spec["type"] in ("builtins.dict", "collections.OrderedDict")
    names = parse_json(spec["context"], "its outputs") if named else []
    if str(spec["type"]) in module.get("treespec_namedtuple_fields", {}):
        names = module["treespec_namedtuple_fields"][spec["type"]]["field_names"]
    return [str(name) for name in names] if len(set(map(str, names))) == count else numbers


class _Rows(nn.Module):
    """A program for one row, mapped over all rows of a batch."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def forward(self, obs: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = torch.vmap(self.tape)(obs.unsqueeze(1))
        return {name: output.squeeze(1) for name, output in outputs.items()}
