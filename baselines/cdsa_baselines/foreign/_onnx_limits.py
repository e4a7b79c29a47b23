"""What an ONNX graph may ask onnxruntime for: nodes, memory and time, tried before the graph is optimised and kept."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from cdsa_lightning.errors import InputError

__all__ = ["ENDLESS", "messages", "packages", "require_few", "require_text", "try_out"]

ENDLESS = ("Loop", "Scan", "SequenceMap")
"""Operators that run a part of the graph as often as a number says."""
NODES = 10_000
"""Nodes of a graph, those counted again that a function's body repeats; onnxruntime takes 40 KB for one."""
ROOM = 256 << 20
"""Bytes that a graph may compute with on a few observations, besides its weights."""
PATIENCE = 20.0
"""Seconds that it may take for that."""


def packages() -> tuple[Any, Any]:
    """onnx and onnxruntime.

    Raises:
        InputError: one is not installed.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "Baseline 'onnx' needs onnx and onnxruntime, which are not installed. Install them: "
            "pip install 'cdsa-lightning[onnx]'"
        ) from error
    return onnx, onnxruntime


def messages(message: Any) -> Iterator[Any]:
    """`message` and all messages inside it: graphs in attributes, bodies of functions, tensors anywhere."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from messages(part)


def require_text(parts: list[Any], source: str) -> None:
    """Refuse names and paths that are no text, which protobuf gives as bytes.

    Raises:
        InputError: there is one.
    """
    for field, value in (entry for part in parts for entry in part.ListFields()):
        if field.type == field.TYPE_STRING and any(isinstance(one, bytes) for one in _all(value)):
            raise InputError(f"{source} is damaged: its {field.name} is no text. Export it anew.")


def _all(value: Any) -> Any:
    return [value] if isinstance(value, str | bytes) else value


def require_few(model: Any, source: str) -> None:
    """Refuse functions that call each other so often that their bodies, put in place, would fill memory.

    Raises:
        InputError: they do.
    """
    bodies = {(body.domain, body.name): body for body in model.functions}
    known: dict[tuple[str, str], int] = {}

    def count(graph: Any) -> int:
        nodes = [part for part in messages(graph) if hasattr(part, "op_type")]
        return len(nodes) + sum(called((node.domain, node.op_type)) for node in nodes)

    def called(name: tuple[str, str]) -> int:
        if name in bodies and name not in known:
            known[name] = NODES  # what calls itself is met here again
            known[name] = count(bodies[name])
        return known.get(name, 0)

    try:
        total = count(model.graph)
    except RecursionError:
        total = NODES + 1
    if total > NODES:
        raise InputError(f"{source} was refused: with its functions put in place it has more than {NODES:,} nodes.")


@functools.cache
def _arena() -> None:
    """Register an allocator that gives no more than `ROOM` at a time; sessions use it that ask for it."""
    onnxruntime = packages()[1]
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    settings = onnxruntime.OrtArenaCfg({"max_mem": ROOM, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(place, settings)


def try_out(content: bytes, name: str, shape: tuple[int, int]) -> None:
    """Run the graph as it stands, in little room and time; optimising it would compute parts of it without a limit.

    Args:
        content: The model.
        name, shape: Of its input.
    """
    onnxruntime = packages()[1]
    _arena()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    options.add_session_config_entry("session.use_env_allocators", "1")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    run = onnxruntime.RunOptions()
    timer = threading.Timer(PATIENCE, lambda: setattr(run, "terminate", True))
    timer.start()
    try:
        session.run(None, {name: np.zeros(shape, np.float32)}, run)
    finally:
        timer.cancel()
