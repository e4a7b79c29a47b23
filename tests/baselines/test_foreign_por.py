"""POR's own files: both networks are found and act together; one alone is told, and nothing in a file is executed."""

import os
import pickle
import re

import numpy as np
import pytest
import torch
from torch import nn

from cdsa_baselines.foreign.por import inspect, load
from cdsa_lightning.errors import InputError

from .checkpoints import box_task, random_layers, sb3_state

S, A, LIMIT = 5, 2, 1.5
RUN = "por_r_alpha-3.0_tau-0.5_alpha-3.0_normalize-False"
EXPECTED = "Expected NAME-policy_network and NAME-goal_network"


@pytest.fixture
def task():
    return box_task(S, [-LIMIT] * A, [LIMIT] * A)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hopper-medium-v2").mkdir()
    return tmp_path / "hopper-medium-v2"


def save(path, *sizes, seed=0):
    layers = random_layers(*sizes, seed=seed)
    torch.save(sb3_state(layers, "net.", "net.4.") | {"log_std": torch.zeros(sizes[-1])}, path)
    return layers


def write(folder, run=RUN, suffix="", obs_dim=S, action_dim=A, widths=(16, 32)):
    """Both files; the path of pi and the layers of pi and g."""
    path = folder / f"{run}-policy_network{suffix}"
    pi = save(path, 2 * obs_dim, widths[1], widths[1], action_dim, seed=1)
    g = save(folder / f"{run}-goal_network{suffix}", obs_dim, widths[0], widths[0], obs_dim, seed=2)
    return path, pi, g


def mean(layers, x):
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight.T.astype(float) + bias, 0)
    return x @ layers[-1][0].T.astype(float) + layers[-1][1]


def forward(pi, g, u):
    """clip(pi([u, g(u)])) in NumPy, float64."""
    return np.clip(mean(pi, np.concatenate([u, mean(g, u)], axis=1)), -LIMIT, LIMIT)


def observations(rows=64):
    return np.random.default_rng(1).standard_normal((rows, S))


def actions(path, task, obs):
    return load(path, task)(torch.tensor(obs, dtype=torch.float32)).numpy()


@pytest.mark.parametrize("suffix", ["", ".pt", ".pth"])
@pytest.mark.parametrize("named", ["policy", "goal", "folder"])
def test_goal_and_action_networks_act_together_whichever_is_named(folder, task, named, suffix):
    path, pi, g = write(folder, suffix=suffix)
    named = {"policy": path, "goal": folder / f"{RUN}-goal_network{suffix}", "folder": folder}[named]
    obs = observations()
    expected = forward(pi, g, obs)
    np.testing.assert_allclose(actions(named, task, obs), expected, atol=1e-5)
    inside = np.abs(expected) < LIMIT
    assert inside.any() and not inside.all()  # Some means are clipped, and no tanh bends the others.


def test_the_goal_of_another_run_is_never_taken(folder, task):
    path, pi, g = write(folder)
    save(folder / "other-goal_network", S, 16, 16, S, seed=7)
    (folder / f"{RUN}-goal_network").rename(folder / f"{RUN}-behavior_goal_network")
    with pytest.raises(InputError, match=f"the goal network g is missing. {EXPECTED}.*; found other-goal_network, "):
        load(path, task)


def test_pi_without_g_and_g_without_pi_are_told(folder, task):
    path, *_ = write(folder)
    goal = folder / f"{RUN}-goal_network"
    content = goal.read_bytes()
    goal.unlink()
    for named in (path, folder):
        with pytest.raises(InputError, match="beside 'por_r.*-policy_network' the goal network g is missing"):
            load(named, task)
    goal.write_bytes(content)
    path.unlink()
    for named in (goal, folder):
        with pytest.raises(InputError, match="beside 'por_r.*-goal_network' the action network pi is missing"):
            load(named, task)


def test_a_behaviour_goal_network_is_no_policy(folder, task):
    path = folder / "hopper-medium-v2-behavior_goal_network.pt"
    save(path, S, 16, 16, S)
    with pytest.raises(InputError, match=f"is a POR behaviour goal network: .* no policy; needs pi and .*{EXPECTED}"):
        load(path, task)
    with pytest.raises(InputError, match="no POR policy .behaviour goal networks are none.: hopper-medium-v2-behav"):
        load(folder, task)
    found = inspect(path)
    assert (found.algorithm, found.obs_dim, found.action_dim) == ("POR behaviour goal network", S, None)
    assert (found.task, found.statistics) == ("hopper-medium", "none: raw observations")
    assert found.notes[0].startswith("Not a policy: needs pi") and not found.acts


def test_a_folder_of_several_policies_asks_for_one(folder, task):
    write(folder)
    write(folder, run="por_q")
    for use in (lambda: load(folder, task), lambda: inspect(folder)):
        with pytest.raises(InputError, match="several POR policies, name one of them: por_q-policy_network, por_r_al"):
            use()


def test_inspect_tells_a_pair_from_either_file_or_the_folder(folder):
    path, *_ = write(folder)
    for named in (path, folder / f"{RUN}-goal_network", folder):
        found = inspect(named)
        assert (found.algorithm, found.obs_dim, found.action_dim, found.notes) == ("POR", S, A, ())
        assert found.details == {"action network": "10 - 32 - 32 - 2, ReLU", "goal network": "5 - 16 - 16 - 5, ReLU"}
        assert (found.task, found.statistics) == ("hopper-medium", "none: raw observations")


def test_inspect_tells_half_a_pair_and_renamed_files_by_their_shapes(folder):
    path, *_ = write(folder)
    goal = (folder / f"{RUN}-goal_network").rename(folder / "mine.pt")
    for named, what, needs in ((path, "POR action network", "g"), (goal, "POR goal network", "pi")):
        found = inspect(named)
        assert (found.algorithm, found.obs_dim) == (what, S)
        assert re.search(f"Not a policy: needs the \\w+ network {needs}. {EXPECTED}", found.notes[0])


def test_inspect_leaves_other_files_to_others(tmp_path):
    save(tmp_path / "iql-policy_network", 11, 16, 16, 3)  # the authors' IQL: no goal among its inputs
    torch.save({"actor": {"net.0.weight": torch.ones(1, 1), "log_std": torch.ones(1)}}, tmp_path / "corl.pt")
    torch.save(
        {"net.0.weight": torch.ones(1, 1), "log_std": torch.ones(1), "v.0.bias": torch.ones(1)}, tmp_path / "b.pt"
    )
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for name in ("iql-policy_network", "corl.pt", "b.pt", "text.pt", "empty", "missing.pt"):
        assert inspect(tmp_path / name) is None


def test_files_named_after_normalisation_need_statistics(folder, task, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(folder))
    run = RUN.replace("False", "True")
    path, pi, g = write(folder, run=run)
    assert inspect(path).statistics == (
        "missing: mean and std of 5 entries are computed from the data of hopper-medium-v2 at loading"
    )
    with pytest.raises(InputError, match=r"\(POR\) was trained on standardised .*task 'hopper-medium'.*npz"):
        load(path, task)
    obs_mean, obs_std = np.linspace(-1, 1, S), np.linspace(0.5, 2, S)
    np.savez(folder / f"{run}.stats.npz", obs_mean=obs_mean, obs_std=obs_std)
    obs = observations()
    np.testing.assert_allclose(actions(path, task, obs), forward(pi, g, (obs - obs_mean) / obs_std), atol=1e-5)
    assert inspect(path).statistics == f"mean and std of 5 entries, from {run}.stats.npz"


@pytest.mark.parametrize(
    ("pi", "g", "text"),
    [
        (
            (6, 32, 32, 2),
            (5, 16, 16, 5),
            "has 6 inputs and 2 outputs; expected 10 and 2 of a POR action",
        ),
        ((10, 32, 32, 3), (5, 16, 16, 5), "has 10 inputs and 3 outputs; expected 10 and 2"),
        ((10, 32, 32, 2), (6, 16, 16, 6), "goal_network' has 6 inputs and 6 outputs; expected 5 and 5 of a POR goal"),
        ((5, 32, 32, 2), (5, 16, 16, 5), "has 5 inputs and 2 outputs; expected 10 and 2 .*S=5, A=2"),
    ],
)
def test_networks_of_other_sizes_are_told(folder, task, pi, g, text):
    save(folder / "a-policy_network", *pi)
    save(folder / "a-goal_network", *g)
    with pytest.raises(InputError, match=text):
        load(folder / "a-policy_network", task)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("hello"), "refused: it is damaged.*no whole archive of torch.save"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "was it cut off"),
        (lambda path: torch.save([1], path), "holds a list"),
        (lambda path: torch.save({"fc1.weight": torch.ones(2, 2)}, path), "no network of POR's authors.*fc1.weight"),
        (lambda path: torch.save({"actor": {"net.0.weight": torch.ones(2, 2)}}, path), "Its tensors: none"),
    ],
)
@pytest.mark.parametrize("role", ["policy", "goal"])
def test_files_that_are_none_of_theirs_are_told(folder, task, role, make, text):
    path, *_ = write(folder)
    make(folder / f"{RUN}-{role}_network")
    with pytest.raises(InputError, match=text):
        load(path, task)


def test_what_is_not_named_like_their_files_is_told(tmp_path, task):
    save(tmp_path / "policy.pt", 10, 32, 32, 2)
    for wrong, text in (
        (None, "'por_authors' is restored from NAME-policy_network"),
        (tmp_path / "policy.pt", f"policy.pt' is not named as a POR policy. {EXPECTED}"),
        (tmp_path / "missing-policy_network", "There is no checkpoint"),
        (tmp_path, "holds no POR policy .*: policy.pt"),
    ):
        with pytest.raises(InputError, match=text):
            load(wrong, task)


class Attack:
    """Unpickling this writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("role", ["policy", "goal"])
@pytest.mark.parametrize("form", ["whole", "beside"])
def test_a_malicious_file_is_refused_and_not_run(folder, task, role, form):
    path, *_ = write(folder)
    file, attack = folder / f"{RUN}-{role}_network", Attack(folder / "attacked")
    torch.save(attack if form == "whole" else {**torch.load(file, weights_only=True), "x": attack}, file)
    for use in (lambda: load(path, task), lambda: inspect(file)):
        with pytest.raises(InputError, match="it holds posix.system, .*Nothing in it was executed"):
            use()
    assert not (folder / "attacked").exists()
    torch.load(file, weights_only=False)
    assert (folder / "attacked").exists()  # The attack itself works: a reader that unpickles would have failed above.


def test_a_bare_pickle_is_refused_and_not_run(folder, task):
    path, *_ = write(folder)
    path.write_bytes(pickle.dumps(Attack(folder / "attacked"), protocol=2))
    with pytest.raises(InputError, match="was refused"):
        load(path, task)
    assert not (folder / "attacked").exists()


class Gaussian(nn.Module):
    """The authors' network: a perceptron with ReLU for the mean, a log-std that is clamped to [-5, 2]."""

    def __init__(self, inputs, outputs, width):
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))
        )
        self.log_std = nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        std = self.log_std.clamp(-5, 2).exp()
        return torch.distributions.MultivariateNormal(self.net(x), scale_tril=torch.diag(std))


@pytest.mark.slow
def test_at_full_size_a_thousand_actions_are_those_of_a_reference_written_apart(folder, task):
    torch.manual_seed(0)
    pi, g = Gaussian(2 * S, A, 1024), Gaussian(S, S, 256)
    torch.save(pi.state_dict(), folder / f"{RUN}-policy_network")
    torch.save(g.state_dict(), folder / f"{RUN}-goal_network")
    obs = observations(1000)
    expected = []
    with torch.no_grad():
        for row in torch.tensor(obs, dtype=torch.float32):
            goal = g(row).mean.numpy()
            action = pi(torch.tensor(np.concatenate([row.numpy(), goal]))).mean.numpy()
            expected.append(np.clip(action, -LIMIT, LIMIT))
    assert np.abs(actions(folder, task, obs) - np.stack(expected)).max() < 1e-5
