"""Networks as program files (TorchScript, torch.export, ONNX), and the same networks to compare them with."""

import json
import zipfile

import numpy as np
import torch
from torch import nn

from .checkpoints import box_task

S, A = 5, 2
LOW, HIGH = (-2.0, -0.5), (1.0, 0.5)
ANY_BATCH = ({0: torch.export.Dim.DYNAMIC},)


def program_task(obs_dim=S, low=LOW, high=HIGH):
    return box_task(obs_dim, low, high)


class Residual(nn.Module):
    """LayerNorm, GELU and tanh, a sum around a block, statistics inside, an attribute that is no buffer."""

    def __init__(self, obs_dim=S, action_dim=A, width=16):
        super().__init__()
        self.first = nn.Linear(obs_dim, width)
        self.block = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Dropout(0.3))
        self.last = nn.Linear(width, action_dim)
        self.register_buffer("mean", torch.linspace(-1, 1, obs_dim))
        self.scale = torch.linspace(0.5, 1.5, action_dim)

    def forward(self, obs):
        hidden = torch.tanh(self.first((obs - self.mean).clamp(-4, 4)))
        return torch.tanh(self.last(hidden + self.block(hidden))) * self.scale


class Gaussian(nn.Module):
    """A mean and a standard deviation, by name; the batch's size is asked for."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(S, 8), nn.SiLU(), nn.Linear(8, 8), nn.ReLU(inplace=True))
        self.mean = nn.Linear(8, A)
        self.log_std = nn.Parameter(torch.zeros(A))

    def forward(self, obs):
        mean = torch.tanh(self.mean(self.trunk(obs)))
        return {"std": self.log_std.exp().expand(obs.shape[0], 2), "mean": mean}


class Folded(nn.Module):
    """Two halves of the observation through one layer, batch statistics, some of an ensemble's mean."""

    def __init__(self):
        super().__init__()
        self.norm, self.fold = nn.BatchNorm1d(4), nn.Linear(2, 3)
        self.heads = nn.Parameter(torch.randn(3, 6, A))
        self.norm.running_mean.normal_()

    def forward(self, obs):
        with torch.no_grad():
            halves = self.fold(self.norm(obs[:, :4]).view(obs.shape[0], 2, 2)).flatten(1)
        return torch.einsum("bi,eia->eba", torch.relu(halves), self.heads).mean(0) + obs[:, 4:].sigmoid()


NETWORKS = {"residual": Residual, "gaussian": Gaussian, "folded": Folded}


def network(kind):
    torch.manual_seed(0)
    return NETWORKS[kind]().eval().requires_grad_(False)


def sidecar(path, **values):
    """Write the JSON beside `path`; returns `path`."""
    path.with_suffix(".json").write_text(json.dumps(values))
    return path


def expected(net, obs, low=LOW, high=HIGH):
    """What a policy of `net` must answer: its mean where it has one, within the bounds."""
    with torch.no_grad():
        answer = net(obs)
    answer = answer["mean"] if isinstance(answer, dict) else answer
    return torch.minimum(torch.maximum(answer, torch.tensor(low)), torch.tensor(high))


def observations(rows=1000):
    return 2 * torch.randn(rows, S, generator=torch.Generator().manual_seed(1))


def check_parity(load, path, net, task):
    """1,000 observations at once and a few alone, as the network itself answers them."""
    policy, obs = load(path, task).eval(), observations()
    with torch.inference_mode():
        torch.testing.assert_close(policy(obs), expected(net, obs), atol=1e-5, rtol=0)
        torch.testing.assert_close(policy(obs[:1]), expected(net, obs[:1]), atol=1e-5, rtol=0)
    assert len(policy(obs).unique(dim=0)) > 100  # clipped to one corner, everything would agree
    return policy


def check_sidecar(load, path, net):
    """The sidecar's scale and statistics around `net`, whose answers lie in [-1.5, 1.5]."""
    task, obs = program_task(), observations(50)
    mean, std = np.linspace(-1, 1, S), np.linspace(0.5, 2, S)
    sidecar(path, scale_to_bounds=True, obs_mean=mean.tolist(), obs_std=std.tolist(), eps_added_to_std=0.25, info="x")
    answer = net((obs - torch.tensor(mean)).float() / torch.tensor(std + 0.25).float()).numpy().clip(-1, 1)
    low, high = np.array(LOW), np.array(HIGH)
    wanted = (low + high) / 2 + (high - low) / 2 * answer
    np.testing.assert_allclose(load(path, task)(obs).detach(), wanted, atol=1e-5)


def scripted(net):
    return torch.jit.script(net)


def traced(net):
    return torch.jit.trace(net, torch.zeros(1, S), strict=False)


def frozen(net):
    return torch.jit.freeze(scripted(net))


def write_script(path, net, form=traced):
    form(net).save(str(path))
    return path


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, changes, renamed=None, added=None):
    """Write the archive anew.

    Args:
        path: The archive.
        changes: End of a member's name -> function of its old content.
        renamed: End of a member's name -> what it becomes.
        added: New members, named below the root.
    """
    content, root = members(path), ""
    with zipfile.ZipFile(path, "w") as archive:
        for name, old in content.items():
            root = name.partition("/")[0]
            new = next((change(old) for end, change in changes.items() if name.endswith(end)), old)
            for end, replacement in (renamed or {}).items():
                name = name.removesuffix(end) + replacement if name.endswith(end) else name
            archive.writestr(name, new)
        for name, new in (added or {}).items():
            archive.writestr(f"{root}/{name}", new)
    return path


def write_export(path, net, batch=None, decompose=False):
    """`net` as a torch.export archive, for any batch or for `batch` rows alone."""
    program = torch.export.export(net, (torch.zeros(batch or 2, S),), dynamic_shapes=None if batch else ANY_BATCH)
    torch.export.save(program.run_decompositions() if decompose else program, path)
    return path


def write_onnx(path, net, batch=None):
    """By the exporter that needs no further package."""
    names = ["std", "mean"] if isinstance(net(torch.zeros(1, S)), dict) else ["action"]
    axes = None if batch else {name: {0: "B"} for name in ("obs", *names)}
    settings = {"input_names": ["obs"], "output_names": names, "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(net, (torch.zeros(batch or 2, S),), str(path), opset_version=17, **settings)
    return path
