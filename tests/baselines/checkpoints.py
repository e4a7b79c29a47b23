"""Small checkpoints of all baselines, built on the spot; a new baseline adds one function and one line at the end."""

import dataclasses
import io
import json
import zipfile

import gymnasium
import numpy as np
import onnx
import torch

from cdsa_baselines.bc import BC, BC10
from cdsa_baselines.codac import CODAC
from cdsa_baselines.cql import CQL
from cdsa_baselines.iql import IQL
from cdsa_baselines.mlp import save_mlp
from cdsa_baselines.onestep import OneStep
from cdsa_baselines.por import POR
from cdsa_baselines.sac import SAC
from cdsa_baselines.td3_bc import TD3BC
from cdsa_lightning.data import DataInfo
from cdsa_lightning.tasks import get_task

from .d3rlpy_files import actor_state, d3rlpy_config, d3rlpy_states, min_max, standard, write_d3


class BoxWorld(gymnasium.Env):
    """A world of any dimensions and action bounds, for tests that never step it."""

    def __init__(self, obs_dim=5, low=(-1.0,), high=(1.0,), render_mode=None):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
        self.action_space = gymnasium.spaces.Box(np.float32(low), np.float32(high))


def box_task(obs_dim, low, high):
    """A task with observations [obs_dim] and action bounds `low`, `high`."""
    if "cdsa-tests/Box-v0" not in gymnasium.registry:
        gymnasium.register("cdsa-tests/Box-v0", entry_point=BoxWorld, disable_env_checker=True)
    kwargs = {"obs_dim": obs_dim, "low": list(low), "high": list(high)}
    return dataclasses.replace(get_task("risky-pointmass"), name="box", env_id="cdsa-tests/Box-v0", env_kwargs=kwargs)


def random_layers(*sizes, seed=0, scale=1.0):
    """Weights and biases of a perceptron, NumPy arrays."""
    rng = np.random.default_rng(seed)
    return [
        (
            (scale * rng.standard_normal((o, i)) / np.sqrt(i)).astype(np.float32),
            rng.standard_normal(o).astype(np.float32),
        )
        for i, o in zip(sizes, sizes[1:], strict=False)
    ]


def sb3_state(layers, prefix, last):
    """A state dict as Stable-Baselines3 names it: hidden layers `prefix` + even numbers, then the layer `last`."""
    names = [f"{prefix}{2 * number}." for number in range(len(layers) - 1)] + [last]
    state = {}
    for name, (weight, bias) in zip(names, layers, strict=True):
        state |= {name + "weight": torch.tensor(weight), name + "bias": torch.tensor(bias)}
    return state


def ppo_state(layers, log_std=None):
    """PPO and A2C: the mean of a normal distribution over two actions, and the value net beside it."""
    state = sb3_state(layers, "mlp_extractor.policy_net.", "action_net.")
    state["log_std"] = torch.zeros(2) if log_std is None else log_std
    return state | {"value_net.weight": torch.ones(1, 8), "value_net.bias": torch.ones(1)}


def sac_state(layers, mu="actor.mu."):
    """SAC and TQC over two actions; `mu` is actor.mu.0. under gSDE."""
    state = sb3_state(layers, "actor.latent_pi.", mu)
    extra = {"actor.log_std.weight": torch.ones(2, 8), "actor.log_std.bias": torch.ones(2)}
    return state | (extra if mu == "actor.mu." else {"actor.log_std": torch.ones(8, 2)})


def write_sb3_zip(path, state, data=None, **members):
    """A zip laid out as Stable-Baselines3 does; `state` may be the raw bytes of policy.pth."""
    if not isinstance(state, bytes):
        buffer = io.BytesIO()
        torch.save(state, buffer)
        state = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(data or {}))
        archive.writestr("policy.pth", state)
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_nothing(folder, task):
    return None


def make_mlp(folder, task):
    layers = random_layers(task.obs_dim, 16, task.action_dim)
    mean, std = np.full(task.obs_dim, 0.5), np.full(task.obs_dim, 0.3)
    return save_mlp(folder / "clone.npz", layers, obs_mean=mean, obs_std=std, scale_to_bounds=True)


def make_sb3(folder, task):
    layers = random_layers(task.obs_dim, 16, task.action_dim)
    return write_sb3_zip(folder / "agent.zip", sb3_state(layers, "actor.latent_pi.", "actor.mu."))


def make_corl(folder, task):
    layers = random_layers(task.obs_dim, 16, task.action_dim)
    torch.save({"actor": sb3_state(layers, "net.net.", "net.net.2."), "total_it": 9}, folder / "checkpoint_9.pt")
    statistics = {"obs_mean": np.full(task.obs_dim, 0.5), "obs_std": np.full(task.obs_dim, 0.3)}
    np.savez(folder / "checkpoint_9.stats.npz", **statistics)
    return folder / "checkpoint_9.pt"


def make_por_authors(folder, task):
    sizes = {"policy": (2 * task.obs_dim, 32, task.action_dim), "goal": (task.obs_dim, 16, task.obs_dim)}
    for role, widths in sizes.items():
        state = sb3_state(random_layers(*widths), "net.", "net.2.")
        torch.save(state | {"log_std": torch.zeros(widths[-1])}, folder / f"por_r-{role}_network")
    return folder / "por_r-policy_network"


def run_checkpoint(kind, **settings):
    """A function that writes what `cdsa fit` would for the module `kind`, untrained, of two seeds unless told."""

    def make(folder, task, seeds=(0, 1)):
        module, rng = kind(seeds=seeds, **settings), np.random.default_rng(0)
        low, high = np.asarray(task.low, float).tolist(), np.asarray(task.high, float).tolist()
        info = DataInfo(
            **{"task": task.name, "env_id": task.env_id, "source": "npz:none", "provenance": "npz", "fingerprint": "0"},
            **{"transitions": 1, "mean_return": 0.0, "min_return": 0.0, "max_return": 1.0},
            **{"low": low, "high": high, "action_mean": [0.0] * len(low), "action_std": [1.0] * len(low)},
            **{"obs_mean": rng.normal(size=task.obs_dim).tolist(), "obs_std": [1.0] * task.obs_dim},
        )
        module.ensure_built(info)
        checkpoint = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
        module.on_save_checkpoint(checkpoint)
        torch.save(checkpoint, folder / "last.ckpt")
        return folder / "last.ckpt"

    return make


def make_d3rlpy(folder, task):
    layers, ends = random_layers(task.obs_dim, 16, task.action_dim), (task.obs_dim, task.action_dim)
    scalers = {"obs": standard([0.5] * ends[0], [0.3] * ends[0]), "actions": min_max(task.low, task.high)}
    config = d3rlpy_config("iql", ends, {"hidden_units": [16]}, **scalers)
    return write_d3(folder / "model.d3", d3rlpy_states(actor_state(layers)), config)


def small_network(task):
    """A seeded network from observations to actions in environment units."""
    torch.manual_seed(0)
    widths = (task.obs_dim, 16, task.action_dim)
    net = torch.nn.Sequential(torch.nn.Linear(*widths[:2]), torch.nn.GELU(), torch.nn.Linear(*widths[1:]))
    return net.eval().requires_grad_(False)


def make_torchscript(folder, task):
    statistics = {"obs_mean": [0.5] * task.obs_dim, "obs_std": [0.3] * task.obs_dim, "scale_to_bounds": True}
    (folder / "net.json").write_text(json.dumps(statistics))
    torch.jit.trace(small_network(task), torch.zeros(1, task.obs_dim)).save(folder / "net.pt")
    return folder / "net.pt"


def make_torch_export(folder, task):
    any_batch = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(small_network(task), (torch.zeros(2, task.obs_dim),), dynamic_shapes=any_batch)
    torch.export.save(program, folder / "net.pt2")
    return folder / "net.pt2"


def make_onnx(folder, task):
    layers = random_layers(task.obs_dim, 16, task.action_dim)
    arrays = {f"{part}{i}": array for i, pair in enumerate(layers) for part, array in zip("wb", pair, strict=True)}
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    node, info, names = onnx.helper.make_node, onnx.helper.make_tensor_value_info, [("w0", "b0"), ("w1", "b1")]
    nodes = [node("Gemm", ["obs", *names[0]], ["h"], transB=1), node("Tanh", ["h"], ["t"])]
    nodes.append(node("Gemm", ["t", *names[1]], ["action"], transB=1))
    ends = [[info(n, 1, ["B", size])] for n, size in (("obs", task.obs_dim), ("action", task.action_dim))]
    graph = onnx.helper.make_graph(nodes, "net", *ends, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


CHECKPOINTS = {
    "bc": run_checkpoint(BC, hidden=16),
    "bc10": run_checkpoint(BC10, hidden=16),
    "codac": run_checkpoint(CODAC, hidden=16),
    "cql": run_checkpoint(CQL, hidden=16),
    "corl": make_corl,
    "d3rlpy": make_d3rlpy,
    "iql": run_checkpoint(IQL, hidden=16),
    "mlp": make_mlp,
    "onnx": make_onnx,
    "onestep": run_checkpoint(OneStep, hidden=16),
    "por": run_checkpoint(POR, hidden=16, action_hidden=16),
    "por_authors": make_por_authors,
    "random": make_nothing,
    "sac": run_checkpoint(SAC, hidden=16),
    "sb3": make_sb3,
    "shortest_path": make_nothing,
    "td3_bc": run_checkpoint(TD3BC, hidden=16),
    "torch_export": make_torch_export,
    "torchscript": make_torchscript,
}
"""Entry point -> function(folder, task) that writes a checkpoint for `task` and returns its path (None: needs none)."""

TRAINED = {name: make for name, make in CHECKPOINTS.items() if make.__qualname__.startswith(run_checkpoint.__name__)}
"""Those of them that `cdsa fit` trains, whose functions also take the seeds."""
