"""CORL checkpoints: every family of actors acts as its equation says, and `inspect` tells what it is."""

import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

from cdsa_baselines.foreign.corl import inspect, load

from .checkpoints import box_task, random_layers, sb3_state

S, A, LIMIT = 5, 2, 2.0
MEAN, STD = np.linspace(-1, 1, S), np.linspace(0.5, 2, S)
CONFIG = {"env": "hopper-medium-v2", "normalize": True}


class Scalar(nn.Module):
    """As CORL's CQL pickles two of them into its checkpoints."""

    def __init__(self, value):
        super().__init__()
        self.constant = nn.Parameter(torch.tensor(value))


@pytest.fixture
def task():
    return box_task(S, [-LIMIT] * A, [LIMIT] * A)


def actor_of(algorithm, obs_dim=S, action_dim=A, width=16, scale=1.0):
    """Layers, and the state dict under CORL's names."""
    outputs = 2 * action_dim if algorithm == "CQL" else action_dim
    depth = 2 if algorithm in ("IQL", "TD3+BC", "BC", "SPOT") else 3
    layers = random_layers(obs_dim, *[width] * depth, outputs, scale=scale)
    prefix = {"IQL": "net.net.", "CQL": "base_network.", "AWAC": "_mlp."}.get(algorithm, "net.")
    if algorithm in ("SAC-N", "EDAC", "LB-SAC", "SAC-N or EDAC"):
        head = {"log_sigma.weight": torch.ones(action_dim, width), "log_sigma.bias": torch.ones(action_dim)}
        return layers, sb3_state(layers, "trunk.", "mu.") | head
    extra = {
        "IQL": {"log_std": torch.zeros(action_dim)},
        "AWAC": {"_log_std": torch.zeros(action_dim)},
        "CQL": {"log_std_multiplier.constant": torch.ones(()), "log_std_offset.constant": -torch.ones(())},
    }
    return layers, sb3_state(layers, prefix, f"{prefix}{2 * depth}.") | extra.get(algorithm, {})


def checkpoint_of(algorithm, actor):
    """What CORL saves beside the actor, in small: networks, optimizer states, counters."""
    optimizer = torch.optim.Adam(nn.Linear(2, 1).parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10).state_dict()
    net = {"net.0.weight": torch.ones(1, 2)}
    twins = {"critic_1": net, "critic_2": net}
    extra = {
        "IQL": {"qf": net, "vf": net, "actor_optimizer": optimizer.state_dict(), "actor_lr_schedule": schedule},
        "TD3+BC": {**twins, "actor_optimizer": optimizer.state_dict(), "total_it": 7},
        "SPOT": {**twins, "vae": net, "total_it": 7},
        "BC": {"actor_optimizer": optimizer.state_dict(), "total_it": 7},
        "CQL": {"critic1": net, "critic2": net, "total_it": 7},
        "AWAC": twins,
    }
    return {"actor": actor, **extra.get(algorithm, {"critic": net, "target_critic": net, "log_alpha": -0.5})}


def write(folder, algorithm, config=None, stats=True, **actor):
    """A checkpoint with its configuration and statistics; its path and the layers of its actor."""
    layers, state = actor_of(algorithm, **actor)
    path = folder / "checkpoint_9.pt"
    torch.save(checkpoint_of(algorithm, state), path)
    if config is not None:
        text = "\n".join(f"{key}: {str(value).lower()}" for key, value in config.items())
        (folder / "config.yaml").write_text(text)
    if stats:
        np.savez(folder / "checkpoint_9.stats.npz", obs_mean=MEAN, obs_std=STD)
    return path, layers


def forward(layers, obs, squashed=True):
    """The equation in NumPy, float64."""
    for weight, bias in layers[:-1]:
        obs = np.maximum(obs @ weight.T.astype(float) + bias, 0)
    out = (obs @ layers[-1][0].T.astype(float) + layers[-1][1])[:, :A]
    return LIMIT * np.tanh(out) if squashed else np.clip(out, -LIMIT, LIMIT)


def actions(path, task, obs):
    return load(path, task)(torch.tensor(obs, dtype=torch.float32)).numpy()


def observations(rows=64):
    return 3 * np.random.default_rng(1).standard_normal((rows, S))


@pytest.mark.parametrize("algorithm", ["IQL", "TD3+BC", "BC", "SPOT", "CQL", "AWAC"])
def test_each_actor_acts_as_its_equation_on_standardised_observations(tmp_path, task, algorithm):
    path, layers = write(tmp_path, algorithm)
    obs = observations()
    expected = forward(layers, (obs - MEAN) / STD, squashed=algorithm != "AWAC")
    np.testing.assert_allclose(actions(path, task, obs), expected, atol=1e-5)
    assert np.abs(expected).max() > 1  # Beyond what an unscaled tanh reaches.


@pytest.mark.parametrize("algorithm", ["SAC-N", "EDAC", "LB-SAC"])
def test_sac_with_ensembles_sees_raw_observations(tmp_path, task, algorithm):
    path, layers = write(tmp_path, algorithm, {"env_name": "hopper-medium-v2", "max_action": LIMIT}, stats=False)
    obs = observations()
    np.testing.assert_allclose(actions(path, task, obs), forward(layers, obs), atol=1e-5)


def test_without_normalize_observations_stay_raw(tmp_path, task):
    path, layers = write(tmp_path, "IQL", {"env": "hopper-medium-v2", "normalize": False}, stats=False)
    obs = observations()
    np.testing.assert_allclose(actions(path, task, obs), forward(layers, obs), atol=1e-5)


def test_dropout_between_the_layers_changes_their_numbers_and_nothing_else(tmp_path, task):
    path, layers = write(tmp_path, "IQL")
    state = torch.load(path, weights_only=True)
    state["actor"] = sb3_state(layers[:1], "", "net.net.0.") | sb3_state(layers[1:2], "", "net.net.3.")
    state["actor"] |= sb3_state(layers[2:], "", "net.net.6.")
    torch.save(state, path)
    obs = observations()
    np.testing.assert_allclose(actions(path, task, obs), forward(layers, (obs - MEAN) / STD), atol=1e-5)


def test_the_pickled_temperatures_of_cql_are_passed_over(tmp_path, task, monkeypatch):
    path, layers = write(tmp_path, "CQL")
    state = torch.load(path, weights_only=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["__main__"], "Scalar", Scalar, raising=False)
        patch.setattr(Scalar, "__module__", "__main__")
        torch.save({**state, "sac_log_alpha": Scalar(0.0), "cql_log_alpha": Scalar(1.0)}, path)
    with pytest.raises(Exception, match="__main__.Scalar"):
        torch.load(path, weights_only=True)  # So it is for whoever takes no care of them.
    obs = observations()
    np.testing.assert_allclose(actions(path, task, obs), forward(layers, (obs - MEAN) / STD), atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "config", "statistics"),
    [
        ("IQL", None, "mean and std of 5 entries, from checkpoint_9.stats.npz"),
        ("TD3+BC", CONFIG, "missing: mean and std of 5 entries are computed from the data of hopper-medium-v2"),
        ("CQL", {"env": "pen-human-v1"}, "missing: .* of pen-human-v1"),
        ("BC", CONFIG | {"frac": 0.1}, "missing: "),
        ("SPOT", CONFIG | {"normalize": False}, "none: raw observations"),
        ("AWAC", {"env_name": "hopper-medium-v2"}, "missing: "),
        ("SAC-N", {"env_name": "hopper-medium-v2", "max_action": 1.0}, "none: raw observations"),
        ("EDAC", {"env_name": "hopper-medium-v2", "eta": 1.0}, "none: raw observations"),
        ("LB-SAC", {"env_name": "hopper-medium-v2", "critic_layernorm": False}, "none: raw observations"),
        ("SAC-N or EDAC", None, "none: raw observations"),
    ],
)
def test_inspect_names_the_algorithm_its_shapes_and_its_statistics(tmp_path, algorithm, config, statistics):
    path, _ = write(tmp_path, algorithm, config, stats=statistics.startswith("mean"))
    found = inspect(path)
    assert (found.format, found.algorithm) == ("CORL checkpoint", algorithm)
    assert (found.obs_dim, found.action_dim) == (S, A)
    assert re.match(statistics, found.statistics)
    assert found.details["network"].startswith("5 - 16 - ")
    data = "not told" if config is None else config.get("env", config.get("env_name"))
    assert found.details["trained on"] == data
    assert found.task == ("hopper-medium" if data == "hopper-medium-v2" else None)


def test_inspect_warns_where_no_configuration_tells_the_data(tmp_path):
    path, _ = write(tmp_path, "IQL", stats=False)
    assert "No config.yaml" in inspect(path).notes[0]
    assert "not tell which data" in inspect(path).notes[1]
    assert inspect(path).statistics.startswith("missing: ")


def test_inspect_leaves_other_files_to_others(tmp_path):
    torch.save({"net.0.weight": torch.ones(1, 1), "log_std": torch.ones(1)}, tmp_path / "flat.pt")
    torch.save({"policy": {"net.0.weight": torch.ones(1, 1)}}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").write_bytes(b"")
    write(tmp_path, "IQL")[0].rename(tmp_path / "last.ckpt")
    for name in ("flat.pt", "other.pt", "text.pt", "empty.pt", "last.ckpt", "missing.pt"):
        assert inspect(tmp_path / name) is None


class ReferencePolicy(nn.Module):
    """CORL's evaluation, as its papers and its code describe it: modules, one observation at a time."""

    def __init__(self, algorithm, actor):
        super().__init__()
        self.algorithm, deep = algorithm, algorithm in ("CQL", "SAC-N", "AWAC")
        widths = [S, *[256] * (3 if deep else 2), 2 * A if algorithm == "CQL" else A]
        modules = []
        for i, o in zip(widths, widths[1:], strict=False):
            modules += [nn.Linear(i, o), nn.ReLU()]
        self.body, self.mu = nn.Sequential(*modules[:-2]), modules[-2]
        tensors = [value for key, value in actor.items() if "log_s" not in key]
        with torch.no_grad():
            for parameter, value in zip([*self.body.parameters(), *self.mu.parameters()], tensors, strict=True):
                parameter.copy_(value)

    @torch.no_grad()
    def act(self, obs):
        if self.algorithm != "SAC-N":
            obs = (obs - MEAN) / STD
        out = self.mu(self.body(torch.tensor(obs.reshape(1, -1), dtype=torch.float32)))
        if self.algorithm == "CQL":
            mean, log_std = torch.split(out, A, dim=-1)
            out = mean
        if self.algorithm != "AWAC":
            out = LIMIT * torch.distributions.TanhTransform()(out)
        return np.clip(out.numpy().flatten(), -LIMIT, LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["IQL", "TD3+BC", "BC", "CQL", "SAC-N", "AWAC"])
def test_at_full_size_a_thousand_actions_are_those_of_a_reference_written_apart(tmp_path, task, algorithm):
    raw = algorithm == "SAC-N"
    path, _ = write(tmp_path, algorithm, {"max_action": LIMIT}, stats=not raw, width=256)
    reference = ReferencePolicy(algorithm, torch.load(path, weights_only=True)["actor"])
    obs = observations(1000)
    expected = np.stack([reference.act(row) for row in obs])
    assert np.abs(actions(path, task, obs) - expected).max() < 1e-5
