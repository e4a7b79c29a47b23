"""What every installed baseline owes its callers. Runs over all entry points of the group ``cdsa.baselines``."""

import pickle

import pytest
import torch

from cdsa_lightning.core.policy import Policy
from cdsa_lightning.inspection import Inspection
from cdsa_lightning.registry import inspect_checkpoint, load_policy, names
from cdsa_lightning.tasks import get_task

from .checkpoints import CHECKPOINTS, TRAINED, make_nothing

ROWS = 7
FROM_FILES = [name for name in names() if CHECKPOINTS.get(name) not in (None, make_nothing)]


@pytest.fixture(scope="module")
def task():
    return get_task("risky-pointmass")


@pytest.fixture(scope="module", params=names())
def restore(request, task, tmp_path_factory):
    """A function that loads the baseline anew from one checkpoint."""
    name = request.param
    if name not in CHECKPOINTS:
        pytest.fail(
            f"The baseline {name!r} is installed but tests/baselines/checkpoints.py has no checkpoint for it: "
            "add a function that writes a small one to CHECKPOINTS."
        )
    checkpoint = CHECKPOINTS[name](tmp_path_factory.mktemp(name), task)
    return lambda: load_policy(name, checkpoint, task)


@pytest.fixture
def policy(restore):
    return restore()


def observations(policy, task, rows=ROWS, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    seeds = (policy.num_seeds,) if policy.num_seeds > 1 else ()
    return scale * torch.rand(*seeds, rows, task.obs_dim, generator=generator)


def answer(policy, obs):
    policy.reseed(0)
    with torch.inference_mode():
        return policy(obs).clone()


def test_it_is_a_policy_in_eval(policy):
    assert isinstance(policy, Policy)
    assert not policy.training


def test_observations_go_in_and_float32_actions_come_out(policy, task):
    obs = observations(policy, task)
    action = answer(policy, obs)
    assert action.shape == (*obs.shape[:-1], task.action_dim)
    assert action.dtype == torch.float32


def test_its_bounds_are_those_of_the_task(policy, task):
    torch.testing.assert_close(policy.low, torch.as_tensor(task.low))
    torch.testing.assert_close(policy.high, torch.as_tensor(task.high))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6, -1e6])
def test_actions_stay_within_the_bounds(policy, task, scale):
    action = answer(policy, observations(policy, task, rows=64, scale=scale))
    assert bool(((action >= policy.low) & (action <= policy.high)).all())


def test_a_single_row_is_enough(policy, task):
    assert answer(policy, observations(policy, task, rows=1)).shape[-2:] == (1, task.action_dim)


def test_a_row_does_not_see_the_others(policy, task):
    obs = observations(policy, task)
    others = obs.clone()
    others[..., 1:, :] = 1e3 * torch.rand(others[..., 1:, :].shape) - 500
    torch.testing.assert_close(answer(policy, others)[..., 0, :], answer(policy, obs)[..., 0, :], atol=1e-6, rtol=0)


def test_rows_are_interchangeable(policy, task):
    obs = observations(policy, task)
    if policy.stochastic:  # Draws belong to places in the batch, so alike rows must differ instead.
        alike = answer(policy, obs[..., :1, :].expand(obs.shape)).reshape(-1, task.action_dim)
        assert len(alike.unique(dim=0)) == len(alike)
        return
    some = torch.tensor([4, 0, 5])
    torch.testing.assert_close(answer(policy, obs[..., some, :]), answer(policy, obs)[..., some, :], atol=1e-6, rtol=0)


def test_the_same_observations_give_the_same_actions(policy, task):
    obs = observations(policy, task)
    first = answer(policy, obs)
    with torch.inference_mode():
        second = policy(obs)
    assert torch.equal(first, second) is not policy.stochastic
    assert torch.equal(first, answer(policy, obs))


def test_the_observations_are_left_as_they_were(policy, task):
    obs = observations(policy, task)
    before = obs.clone()
    answer(policy, obs)
    assert torch.equal(obs, before)


class OnDevice(torch.Tensor):
    """A tensor on the meta device; fetched to the CPU it holds zeros, where a true meta tensor holds nothing."""

    @staticmethod
    def __new__(cls, like):
        return torch.Tensor._make_wrapper_subclass(cls, like.shape, dtype=like.dtype, device="meta")

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kwargs, to_cpu = kwargs or {}, torch.device("cpu")
        if function is torch.ops.aten._to_copy.default and kwargs.get("device") == to_cpu:
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        plain = [torch.empty(a.shape, dtype=a.dtype, device="meta") if isinstance(a, cls) else a for a in args]
        return cls(function(*plain, **kwargs))


def test_actions_lie_on_the_device_of_the_observations(policy, task):
    # The meta device stands for any accelerator: whatever is created elsewhere clashes with it. Its tensors hold no
    # values to be fetched, which is allowed to policies on the host alone.
    obs = observations(policy, task).to("meta")
    action = policy.to("meta")(OnDevice(obs) if policy.on_host else obs)
    assert action.device.type == "meta"
    if policy.on_host:
        with pytest.raises((NotImplementedError, RuntimeError)):
            policy(obs)


def test_it_is_frozen(policy):
    assert not any(parameter.requires_grad for parameter in policy.parameters())


def test_its_state_dict_restores_it(restore, policy, task):
    obs = observations(policy, task)
    other = restore()
    for tensor in other.state_dict().values():
        tensor.fill_(2)
    other.load_state_dict({key: value.clone() for key, value in policy.state_dict().items()})
    torch.testing.assert_close(answer(other, obs), answer(policy, obs), atol=0, rtol=0)


def content(path):
    """The file with the weights; of several the largest."""
    every = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return max(every, key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("name", FROM_FILES)
def test_a_checkpoint_is_known_by_its_baseline_and_by_no_other(name, task, tmp_path):
    checkpoint = CHECKPOINTS[name](tmp_path, task)
    findings = inspect_checkpoint(checkpoint)
    assert name in findings.readers, f"{name!r} reads files: its module needs inspect(path) beside load"
    assert list(findings.claims) == [name]
    assert not findings.refusals and not findings.unable
    found = findings.claims[name]
    assert isinstance(found, Inspection)
    assert found.obs_dim in (None, task.obs_dim) and found.action_dim in (None, task.action_dim)
    assert found.task in (None, task.name)
    assert found.num_seeds == load_policy(name, checkpoint, task).num_seeds
    assert all(isinstance(text, str) for entry in found.details.items() for text in entry)


class Attack:
    """Unpickled, it leaves a file behind."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["cut off", "damaged", "pickle", "torch", "text", "empty"])
@pytest.mark.parametrize("name", FROM_FILES)
def test_a_spoilt_checkpoint_is_refused_and_never_run(name, form, task, tmp_path):
    target, checkpoint = tmp_path / "attacked", CHECKPOINTS[name](tmp_path, task)
    file = content(checkpoint)
    whole = file.read_bytes()
    if form == "torch":
        torch.save({"state_dict": Attack(target)}, file)
    else:
        middle = len(whole) // 2
        spoilt = {"cut off": whole[:middle], "pickle": pickle.dumps(Attack(target)), "text": b"weights", "empty": b""}
        file.write_bytes(spoilt.get(form, whole[: middle - 99] + bytes(99) + whole[middle:]))
    findings = inspect_checkpoint(checkpoint)
    assert not findings.unable, "inspect(path) may raise InputError alone"
    assert not findings.claims or form == "damaged"  # zeros within a weight are a weight
    assert not target.exists()
    pickle.loads(pickle.dumps(Attack(target)))  # the attack itself works
    assert target.exists()


def test_the_entry_points_of_this_project_are_installed():
    assert {"corl", "d3rlpy", "iql", "mlp", "onnx", "por_authors", "random", "sb3", "shortest_path"} <= set(names())
    assert {"torch_export", "torchscript"} <= set(names())
    assert {"bc", "bc10", "td3_bc"} <= set(names())


@pytest.mark.parametrize("name", TRAINED)
def test_one_training_seed_is_a_policy_like_any_other(name, task, tmp_path):
    policy = load_policy(name, TRAINED[name](tmp_path, task, seeds=(3,)), task)
    assert policy.num_seeds == 1
    assert answer(policy, observations(policy, task)).shape == (ROWS, task.action_dim)
