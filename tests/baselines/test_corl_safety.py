"""CORL checkpoints that cannot be used: one clear error each, and nothing in a file is ever executed."""

import contextlib
import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch

from cdsa_baselines.foreign.corl import inspect, load
from cdsa_lightning.errors import InputError

from .checkpoints import box_task
from .test_corl import LIMIT, A, S, actor_of, checkpoint_of, write


class Attack:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def task():
    return box_task(S, [-LIMIT] * A, [LIMIT] * A)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["whole", "beside", "in the actor", "as a temperature", "pickle"])
def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path, task, form):
    attack = Attack(tmp_path / "attacked")
    path, _ = write(tmp_path, "CQL")
    state = torch.load(path, weights_only=True)
    if form == "pickle":
        path.write_bytes(pickle.dumps({**state, "x": attack}))
    else:
        actor = {**state["actor"], "x": attack}
        torch.save(
            {
                "whole": attack,
                "beside": {**state, "x": attack},
                "in the actor": {**state, "actor": actor},
                "as a temperature": {**state, "sac_log_alpha": attack},
            }[form],
            path,
        )
    with pytest.raises(InputError, match="checkpoint_9.pt' was refused: .*Nothing in it was executed"):
        load(path, task)
    if form in ("whole", "pickle"):
        assert inspect(path) is None
    else:
        with pytest.raises(InputError, match="it holds posix.system, and only tensors and plain values are read"):
            inspect(path)
    assert not (tmp_path / "attacked").exists()
    with contextlib.suppress(RuntimeError):  # PyTorch's own words after it has unpickled a bare pickle.
        torch.load(path, weights_only=False)
    assert (tmp_path / "attacked").exists()  # The attack itself works: a reader that unpickles would have failed above.


def test_what_calls_itself_a_temperature_of_cql_is_not_run_either(tmp_path, task, monkeypatch):
    path, _ = write(tmp_path, "CQL")
    clean = load(path, task).state_dict()
    module = types.ModuleType("attacker")
    monkeypatch.setitem(sys.modules, "attacker", module)
    exec("import pathlib\ndef Scalar(path):\n    pathlib.Path(path).touch()", module.__dict__)
    attack = Attack(tmp_path / "attacked")
    monkeypatch.setattr(Attack, "__reduce__", lambda self: (module.Scalar, (str(self.path),)))
    torch.save({**torch.load(path, weights_only=True), "sac_log_alpha": attack}, path)
    loaded = load(path, task).state_dict()
    assert all(torch.equal(loaded[key], clean[key]) for key in clean)
    assert not (tmp_path / "attacked").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "attacked").exists()


def test_a_numpy_number_is_named_with_the_way_out(tmp_path, task):
    path, _ = write(tmp_path, "IQL")
    state = torch.load(path, weights_only=True)
    torch.save({**state, "best_score": np.float64(79.0)}, path)
    with pytest.raises(InputError) as error:
        load(path, task)
    assert "it holds numpy._core.multiarray.scalar, numpy.dtype" in str(error.value)
    assert "torch.save({name: module.state_dict()}, PATH)" in str(error.value)
    torch.save({"actor": state["actor"]}, path)  # The way out works.
    assert load(path, task).action_dim == A


def broken(change):
    """A function that writes an IQL checkpoint after `change` of its dictionary."""

    def write_it(path):
        state = checkpoint_of("IQL", actor_of("IQL")[1])
        change(state)
        torch.save(state, path)

    return write_it


def rename(state):
    state["actor"] = {key.replace("net.net", "body"): value for key, value in state["actor"].items()}


def truncate(path):
    broken(lambda state: None)(path)
    path.write_bytes(path.read_bytes()[:3000])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("hello"), "refused: it is damaged.*no whole archive of torch.save"),
        (truncate, "refused: it is damaged.*was it cut off"),
        (lambda path: torch.save([1, 2], path), "holds a list, expected a state dict"),
        (lambda path: torch.save({"policy": {}}, path), "is no CORL checkpoint: expected 'actor' in it, found policy"),
        (
            lambda path: torch.save({"model_state": {}, "state_mean": 0}, path),
            "is a Decision Transformer, which acts",
        ),
        (broken(rename), "holds the actor of none of IQL, TD3.BC, CQL, .* Its tensors: body.0.bias, body.0.weight"),
        (broken(lambda state: state["actor"].pop("net.net.2.bias")), "has no 'net.net.2.bias'"),
        (broken(lambda state: state["actor"]["net.net.0.weight"].fill_(np.nan)), "numbers of net.net.0.weight are NaN"),
    ],
)
def test_files_that_are_no_corl_checkpoint_are_told(tmp_path, task, make, text):
    make(tmp_path / "a.pt")
    with pytest.raises(InputError, match=text):
        load(tmp_path / "a.pt", task)


@pytest.mark.parametrize(("obs_dim", "action_dim"), [(S + 1, A), (S, A + 1)])
def test_a_checkpoint_of_other_dimensions_is_told(tmp_path, task, obs_dim, action_dim):
    path, _ = write(tmp_path, "IQL", stats=False, obs_dim=obs_dim, action_dim=action_dim)
    with pytest.raises(InputError, match=f"made for S={obs_dim} observation and A={action_dim} .* 5 and 2"):
        load(path, task)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"max_action": 1.0}, r"SAC-N\) was made for another action scale: its config.yaml says max_action 1.0.* 2.0"),
        (None, "another action scale: no config.yaml, so CORL's default is max_action 1.0.* reach 2.0"),
        ({"max_action": "wide"}, "config.yaml': max_action has the unusable value 'wide'"),
        ({"normalize": "often"}, "normalize has the unusable value 'often'"),
    ],
)
def test_another_action_scale_and_unusable_settings_are_told(tmp_path, task, config, text):
    path, _ = write(tmp_path, "SAC-N", config, stats=False)
    with pytest.raises(InputError, match=text):
        load(path, task)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: [1", "cannot be read as YAML"),
        ("!!python/object/apply:os.system [touch attacked]", "cannot be read as YAML"),
        ("- 1", "holds a YAML list, expected CORL's settings"),
    ],
)
def test_a_damaged_or_malicious_configuration_is_told(tmp_path, task, text, error, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, _ = write(tmp_path, "IQL")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=error):
        load(path, task)
    assert not (tmp_path / "attacked").exists()


def test_unbounded_actions_and_other_suffixes_are_told(tmp_path, task):
    path, _ = write(tmp_path, "IQL")
    with pytest.raises(InputError, match="bounds, which are infinite"):
        load(path, box_task(S, [-np.inf] * A, [np.inf] * A))
    for wrong in (None, tmp_path / "checkpoint_9.stats.npz", tmp_path / "missing.pt"):
        with pytest.raises(InputError, match="restored from a .pt or .pth file"):
            load(wrong, task)
