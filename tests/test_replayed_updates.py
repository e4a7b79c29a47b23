"""What surrounds a CUDA graph, on a CPU: which buffers are filled, which chunks share a recording, what is logged.

A stand-in for the graph keeps the recorded call, leaves no trace of the recording, and repeats the call when replayed:
the contract of a CUDA graph. That graphs themselves compute the same numbers is for tests/test_gpu.py to show.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from cdsa_lightning.updates import Updates
from test_updates import Pair
from training_data import train, write_npz


class StandIn:
    """A graph that repeats a Python call, on the tensors that it was recorded with."""

    def replay(self):
        for name, value in self.call().items():
            self.losses[name].copy_(value)


@pytest.fixture
def graphs(monkeypatch):
    """Modules replay, with stand-ins for what needs a GPU."""
    chunk = Updates._chunk
    recording: list[StandIn] = []

    def recorded(self, *args):
        if not recording:
            return chunk(self, *args)
        graph = recording[0]
        before = [tensor.clone() for tensor in state(self)]
        graph.losses = {name: value.detach().clone() for name, value in chunk(self, *args).items()}
        for tensor, value in zip(state(self), before, strict=True):
            tensor.copy_(value)
        graph.call = lambda: {name: value.detach() for name, value in chunk(self, *args).items()}
        return graph.losses

    @contextmanager
    def record(graph):
        recording.append(graph)
        yield
        recording.clear()

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(Updates, "_chunk", recorded)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", StandIn)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    begin = Updates.begin
    monkeypatch.setattr(Updates, "begin", lambda self, total, *rest: begin(self, total, False, True, None))


def state(updates):
    counts = [updates.adam.state[slot["params"][0]]["step"] for slot in updates.adam.param_groups]
    return [updates.flat.data, *updates.moments, updates.module.slow, *counts]


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "data.npz")


def test_replayed_chunks_equal_eager_ones(npz, tmp_path, request):
    eager = Pair()
    train(eager, npz, 45, tmp_path / "eager")
    request.getfixturevalue("graphs")
    replayed = Pair()
    trainer = train(replayed, npz, 45, tmp_path / "replayed")
    assert trainer.global_step == 45
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(replayed.state_dict()[name], value, atol=1e-6, rtol=0, msg=name)
    # Chunks of 6 steps: 0-5 and the last of 3 are of their own kinds, so only the kind of 6-11 was recorded.
    assert len(replayed.updates.graphs) == 1 and len(replayed.updates.warm) == 3


def test_learning_rates_reach_the_checkpoint_as_numbers(npz, tmp_path, graphs):
    train(Pair(), npz, 33, tmp_path)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["optimizer_states"][0]
    assert all(isinstance(group["lr"], float) for group in saved["param_groups"])
