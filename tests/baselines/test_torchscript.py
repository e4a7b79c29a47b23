"""TorchScript: the same answers as the module itself, out of files that are read and never run."""

import pytest
import torch
from torch import nn

from cdsa_baselines.foreign.torchscript import inspect, load
from cdsa_lightning.errors import InputError

from .checkpoints import random_layers, sac_state, write_sb3_zip
from .programs import (
    NETWORKS,
    A,
    Residual,
    S,
    check_parity,
    check_sidecar,
    frozen,
    network,
    program_task,
    rewrite,
    scripted,
    sidecar,
    traced,
    write_script,
)


@pytest.fixture(scope="module")
def task():
    return program_task()


@pytest.mark.parametrize("form", [scripted, traced, frozen])
@pytest.mark.parametrize("kind", NETWORKS)
def test_it_answers_as_the_module_itself(tmp_path, task, kind, form):
    if (kind, form) == ("folded", frozen):  # freezing writes torch.no_grad out as assignments to an object
        with pytest.raises(InputError, match="stores '.*prev' for its next call"):
            load(write_script(tmp_path / "net.pt", network(kind), form), task)
        return
    path = write_script(tmp_path / "net.pt", network(kind), form)
    check_parity(load, sidecar(path, output="mean") if kind == "gaussian" else path, network(kind), task)


def test_a_module_saved_in_train_mode_acts_in_eval(tmp_path, task):
    check_parity(
        load, write_script(tmp_path / "net.pt", network("residual").train(), scripted), network("residual"), task
    )


def test_what_does_not_depend_on_the_batch_is_recorded_once(tmp_path, task):
    kinds = {
        kind: type(load(write_script(tmp_path / "net.pt", network(kind)), task).net.program).__name__
        for kind in ("residual", "folded")
    }
    assert kinds == {"residual": "Tape", "folded": "Script"}


def test_the_sidecar_scales_and_standardises(tmp_path):
    check_sidecar(load, write_script(tmp_path / "net.ts", network("residual")), network("residual"))


def test_branches_and_loops_are_followed(tmp_path, task):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.rounds = nn.Linear(S, S), [1, 2]
            self.table = {"scale": torch.tensor([0.5, 2.0])}

        def forward(self, obs, noise: torch.Tensor | None = None):
            if noise is not None:
                obs = obs + noise
            for number in range(3):
                if bool((obs > 1e3).any()) or number == 1:
                    obs = torch.sin(obs) * float(number + 1)
                else:
                    obs = self.layer(obs)
            parts: list[torch.Tensor] = []
            for part in self.rounds:
                parts.append(obs[:, :2] / part)
            return torch.stack(parts).sum(0).clamp(-float("inf"), 0.4) * self.table["scale"]

    torch.manual_seed(0)
    net = Branching().eval().requires_grad_(False)
    check_parity(load, write_script(tmp_path / "net.pt", net, scripted), net, task)


# ---- files that attack -----------------------------------------------------------------------------------------------


class Saves(nn.Module):
    """Writes a file at each call."""

    def __init__(self, target):
        super().__init__()
        self.layer, self.target = nn.Linear(S, A), target

    def forward(self, obs):
        torch.ops.aten.save(obs, self.target)
        return self.layer(obs)


def test_a_program_that_writes_a_file_is_refused(tmp_path, task):
    target, path = tmp_path / "attacked", tmp_path / "net.pt"
    net = torch.jit.script(Saves(str(target)))
    net.save(str(path))
    for reader in (lambda: load(path, task), lambda: inspect(path)):
        with pytest.raises(InputError, match="refused: .* calls 'aten::save'.*Nothing in it was executed"):
            reader()
    assert not target.exists()
    torch.jit.load(str(path))(torch.zeros(1, S))  # The attack itself works: PyTorch's own loader falls for it.
    assert target.exists()


class Restores(nn.Module):
    """Writes a file when it is restored."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, obs):
        return obs[:, :2]

    @torch.jit.export
    def __getstate__(self):
        return (self.target, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.target, self.training = state
        torch.ops.aten.save(torch.zeros(1), self.target)


def test_a_program_that_acts_when_it_is_restored_is_refused(tmp_path, task):
    target, path = tmp_path / "attacked", tmp_path / "net.pt"
    torch.jit.script(Restores(str(target))).save(str(path))
    with pytest.raises(InputError, match="was refused"):
        load(path, task)
    assert not target.exists()
    torch.jit.load(str(path))
    assert target.exists()


FORWARD = b"    return "


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"open('attacked')", "calls 'open'"),
        (b"__import__('os').system('x')", "calls"),
        (b"torch.from_file('attacked', True, 4)", "aten::from_file"),
        (b"torch.ops.aten.save(argument_1, 'x')", "calls 'torch.ops.aten.save'"),
        (b"torch.randn([1])", "aten::randn"),
        (b"torch.load('x')", "aten::load"),
        (b"ops.prim.Print('x')", "calls 'ops.prim.Print'"),
        (b"ops.quantized.linear(argument_1)", "calls 'ops.quantized.linear'"),
        (b"__torch__.torch.classes.a.B()", "calls '__torch__.torch.classes.a.B'"),
        (b"(lambda: 1)()", "calls 'lambda: 1'"),
        (b"{x: 1 for x in [1]}", "holds DictComp"),
        (b"[x for x in [1]]", "holds ListComp"),
        (b"1 + 1", "holds BinOp"),
    ],
)
def test_code_beyond_the_allow_list_is_refused_even_where_it_is_not_reached(tmp_path, task, line, text):
    path = write_script(tmp_path / "net.pt", nn.Sequential(nn.Linear(S, A)))
    code = b"\n  def never(self, argument_1: Tensor) -> Tensor:\n    return " + line + b"\n"
    with pytest.raises(InputError, match=f"{text}.*Nothing in it was executed"):
        load(rewrite(path, {".py": lambda old: old.rstrip() + code}), task)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"    self.weight = x\n    return x", "stores 'self.weight' for its next call"),
        (b"    _0 = torch.add_(self.weight, 1)\n    return x", "changes a stored tensor by 'add_'"),
        (b"    return torch.linear(x, self.missing)", "cannot act"),
        (b"    return (self.weight).forward(x, )", "calls 'forward' of a Tensor"),
        (b"    return self.forward(x, )", "recursion"),
        (b"    return torch.mul([x], 10)", "cannot act|not supported"),
        (b'    return torch.mul("ab", 1000000000)', "Arithmetic on a str"),
        (b'    ops.prim.RaiseException("no", "builtins.ValueError")', "ends itself: no"),
    ],
)
def test_a_program_that_is_no_function_is_refused(tmp_path, task, body, text):
    path = write_script(tmp_path / "net.pt", nn.Linear(S, A))

    def change(old):
        head = old[: old.index(b"  def forward")]
        return head + b"  def forward(self, x: Tensor) -> Tensor:\n" + body + b"\n"

    with pytest.raises(InputError, match=text):
        load(rewrite(path, {".py": change}), task)


# ---- other files -----------------------------------------------------------------------------------------------------


def test_it_claims_no_other_file(tmp_path, task):
    state = tmp_path / "state.pt"
    torch.save(Residual().state_dict(), state)
    write_sb3_zip(tmp_path / "agent.pt", sac_state(random_layers(S, 8, A)))
    program = tmp_path / "program.pt"
    with program.open("wb") as file:
        torch.export.save(torch.export.export(nn.Linear(S, A), (torch.zeros(1, S),)), file)
    whole = write_script(tmp_path / "whole.pt", nn.Linear(S, A)).read_bytes()
    for name, content in {"empty.pt": b"", "text.pt": b"weights", "cut.pt": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
    for path in sorted(tmp_path.glob("*.pt")):
        if path.name != "whole.pt":
            assert inspect(path) is None, path
            with pytest.raises(InputError, match="is not a TorchScript archive.*or it is damaged"):
                load(path, task)
    assert inspect(tmp_path) is None and inspect(write_script(tmp_path / "net.zip", nn.Linear(S, A))) is None
    with pytest.raises(InputError, match="from a .pt or .pth or .ts or .torchscript file, got"):
        load(tmp_path / "net.zip", task)


def test_inspect_tells_shapes_operators_and_statistics(tmp_path):
    path = write_script(tmp_path / "net.pt", network("residual"))
    sidecar(path, obs_mean=[0.0] * S, obs_std=[1.0] * S)
    found = inspect(path)
    assert (found.format, found.obs_dim, found.action_dim) == ("TorchScript archive", S, A)
    assert found.statistics == f"mean and std of {S} entries, from net.json"
    assert found.details["operators"] == "add, clamp, dropout, gelu, layer_norm, linear, mul, sub, tanh"
    assert "first.weight [16, 5]" in found.details["tensors"] and "CONSTANTS.c" in found.details["tensors"]
    assert found.details["outputs"] == f"0 [B, {A}]" and not found.notes


def test_inspect_does_not_guess_how_many_entries_a_program_takes(tmp_path):
    found = inspect(write_script(tmp_path / "net.pt", network("folded")))
    assert found.obs_dim is None and "does not say" in found.notes[0]
