r"""Networks saved as TorchScript (``torch.jit.save``), scripted or traced: any forward(obs [B, S]) -> [B, A].

An archive ``net.pt`` holds code and attributes. `torch.jit.load` would compile the one and unpickle the other; here the
code is interpreted over an allow-list of operators, and the attributes are read as data (`_script`, `_script_data`).
``net.json`` beside it may say how to use the network, see `cdsa_baselines.foreign._program`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cdsa_baselines._files import checkpoint_file
from cdsa_baselines._layers import require_widths
from cdsa_baselines.foreign._archive import read_archive, torch_root
from cdsa_baselines.foreign._program import ROOM, chosen, program_policy, read_sidecar, shapes_of
from cdsa_baselines.foreign._script import Code
from cdsa_baselines.foreign._script_data import Object, read_values
from cdsa_baselines.foreign._script_run import Script
from cdsa_baselines.foreign._tape import Tape
from cdsa_lightning.allowance import Allowance
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.errors import InputError
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.storages import Storages
from cdsa_lightning.tasks import Task
from cdsa_lightning.untrusted import room

__all__ = ["inspect", "load"]

SUFFIXES = (".pt", ".pth", ".ts", ".torchscript")
MARKER = "constants.pkl"
"""The member that other archives of PyTorch lack."""


class _Archive(NamedTuple):
    """A file, read and checked."""

    script: Script
    operators: list[str]
    root: Object
    version: str


def load(checkpoint: Path | None, task: Task) -> Policy:
    """Any network saved as TorchScript (torch.jit.save).

    Args:
        checkpoint: The archive; ``.pt``, ``.pth``, ``.ts`` or ``.torchscript``.
        task: Gives the dimensions to check and the action bounds.

    Raises:
        InputError: no such archive, damaged, code beyond an allow-list of operators, or made for other dimensions.
    """
    path = checkpoint_file("torchscript", checkpoint, SUFFIXES)
    root = torch_root(path, MARKER)
    if root is None:
        raise InputError(
            f"{str(path)!r} is not a TorchScript archive (it has no {MARKER!r}), or it is damaged. Write one with "
            "torch.jit.trace(actor.eval(), torch.zeros(1, S)).save(PATH)."
        )
    archive, sidecar = _read(path, root), read_sidecar(path)
    archive.script.tensors.require_numbers(repr(str(path)))
    obs_dim, outputs = _shapes(archive.script)
    action_dim = outputs.get(chosen(outputs, sidecar) or "")
    fits = obs_dim == task.obs_dim or bool(shapes_of(archive.script, {task.obs_dim}))
    if obs_dim is not None and action_dim is not None and not (fits and action_dim == task.action_dim):
        require_widths(path, obs_dim, action_dim, task)
    return program_policy(_taped(archive.script, task.obs_dim), path, task, sidecar)


def inspect(path: Path) -> Inspection | None:
    """What a TorchScript archive holds; None where `path` is something else.

    Raises:
        InputError: it is one, but cannot be used.
    """
    root = torch_root(path, MARKER) if path.suffix in SUFFIXES and path.is_file() else None
    if root is None:
        return None
    archive, sidecar = _read(path, root), read_sidecar(path)
    shapes = {name.strip("/").replace("/", "."): list(x.shape) for name, x in archive.script.tensors.named_buffers()}
    obs_dim, outputs = _shapes(archive.script)
    return Inspection(
        format="TorchScript archive",
        algorithm=f"any network ({archive.root.cls.removeprefix('__torch__.')})",
        obs_dim=obs_dim,
        action_dim=outputs.get(chosen(outputs, sidecar) or ""),
        statistics=sidecar.statistics,
        details={
            "format version": archive.version,
            "outputs": ", ".join(f"{name} [B, {width}]" for name, width in outputs.items()) or "unknown",
            "operators": ", ".join(archive.operators),
            "tensors": ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none",
            **sidecar.details,
        },
        notes=() if obs_dim else ("The file does not say how many observation entries it takes.",),
    )


def _read(path: Path, root: str) -> _Archive:
    source = repr(str(path))
    members = read_archive(path, root, lambda name: not name.endswith(".debug_pkl"))
    if "data.pkl" not in members:
        raise InputError(f"{source} has no 'data.pkl'; PyTorch before 1.4 wrote such archives. Save it anew.")
    code = Code({name: text for name, text in members.items() if name.startswith("code/")}, source)
    values = []
    for pickle, folder in (("data.pkl", "data/"), ("constants.pkl", "constants/")):
        storages = {n.removeprefix(folder): content for n, content in members.items() if n.startswith(folder)}
        where = f"{pickle!r} in {source}"
        values.append(read_values(members[pickle], Storages(storages, room(path.stat().st_size)), where))
    module, constants = values
    if not isinstance(module, Object) or module.cls not in code.classes or not isinstance(constants, tuple):
        raise InputError(f"{source} holds a {type(module).__name__}, expected a module. Export it anew.")
    try:
        script = Script(code, module, constants)
    except RecursionError:
        raise InputError(f"{source} is damaged: its attributes contain themselves. Export it anew.") from None
    version = members.get(".data/version", members.get("version", b"unknown")).decode(errors="replace").strip()
    return _Archive(script.eval(), sorted(code.operators), module, version)


def _shapes(script: Script) -> tuple[int | None, dict[str, int]]:
    """S, where exactly one fits, and the width of each output [B, width] by name; nothing is computed."""
    sizes = {size for tensor in script.tensors.buffers() for size in tensor.shape}
    fitting = shapes_of(script, sizes - {1}) or shapes_of(script, {1})  # a single entry spreads over any number
    # A program that takes slices of the observations takes other numbers too, and its weights do not tell which.
    if len(fitting) != 1 or shapes_of(script, {fitting[0][0] - 1, fitting[0][0] + 1} - {0}):
        return None, {}
    entries, outputs = fitting[0]
    return entries, {name: shape[-1] for name, shape in outputs.items() if len(shape) == 2}


def _taped(script: Script, obs_dim: int) -> nn.Module:
    """`script` as a tape, where it is one."""
    try:
        weights = sum(tensor.numel() for tensor in script.tensors.buffers())
        with torch.inference_mode(), Allowance(ROOM + 16 * weights):
            tape = script.tape(torch.zeros(2, obs_dim))
            probes = [torch.linspace(-2, 2, rows * obs_dim).view(rows, -1) for rows in (1, 3)]
            if tape is not None and all(_agree(script, tape, obs) for obs in probes):
                return tape
    except Exception:  # It does not act on such observations; the caller finds the words for it.
        return script
    return script


def _agree(script: Script, tape: Tape, obs: Tensor) -> bool:
    wanted, found = script(obs.clone()), tape(obs.clone())
    return list(wanted) == list(found) and all(torch.equal(wanted[name], found[name]) for name in wanted)
