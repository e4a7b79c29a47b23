"""What TorchScript, torch.export and ONNX share: the sidecar, the fit to a task, refusals that name what was found."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cdsa_baselines.foreign import onnx as onnx_files
from cdsa_baselines.foreign import torch_export, torchscript
from cdsa_lightning.errors import InputError
from cdsa_lightning.registry import load_policy

from .programs import (
    A,
    Residual,
    S,
    network,
    observations,
    program_task,
    sidecar,
    traced,
    write_export,
    write_onnx,
    write_script,
)

FORMS = {
    "torchscript": (torchscript.load, ".pt", write_script),
    "torch_export": (torch_export.load, ".pt2", write_export),
    "onnx": (onnx_files.load, ".onnx", write_onnx),
}


@pytest.fixture(scope="module")
def task():
    return program_task()


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


def written(folder, form, net):
    return FORMS[form][2](folder / f"net{FORMS[form][1]}", net)


def test_the_registry_restores_it(tmp_path, form, task):
    policy = load_policy(form, written(tmp_path, form, network("residual")), task)
    assert policy.on_host == (form == "onnx")
    assert policy(observations(3)).shape == (3, A)


def test_another_number_of_observation_entries_is_named(tmp_path, form):
    path = written(tmp_path, form, network("residual"))
    with pytest.raises(InputError, match="made for S=5 observation and A=2 action entries, task 'box' has 4 and 2"):
        FORMS[form][0](path, program_task(obs_dim=4))


def test_another_number_of_action_entries_is_named(tmp_path, form):
    path = written(tmp_path, form, network("residual"))
    with pytest.raises(InputError, match="made for S=5 observation and A=2 action entries, task 'box' has 5 and 3"):
        FORMS[form][0](path, program_task(low=(-1.0,) * 3, high=(1.0,) * 3))


def test_of_several_outputs_the_sidecar_must_name_one(tmp_path, form, task):
    path = written(tmp_path, form, network("gaussian"))
    with pytest.raises(InputError, match=r"2 outputs: 'std' \[1, 2\], 'mean' \[1, 2\]. Say in 'net.json' which"):
        FORMS[form][0](path, task)
    with pytest.raises(InputError, match="no output 'action', which 'net.json' asks for. Its outputs: 'std'"):
        FORMS[form][0](sidecar(path, output="action"), task)
    std = FORMS[form][0](sidecar(path, output=0), task)(observations(4))
    torch.testing.assert_close(std, torch.tensor([1.0, 0.5]).expand(4, 2))  # exp(0), clipped to the upper bounds
    assert not torch.equal(FORMS[form][0](sidecar(path, output="mean"), task)(observations(4)), std)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"obs_means": [0.0] * S}, "Unknown entry 'obs_means'. Did you mean 'obs_mean'.*net.json"),
        ({"obs_mean": [0.0] * S}, "obs_mean and obs_std belong together"),
        ({"obs_mean": [0.0] * 4, "obs_std": [1.0] * 4}, "statistics of S=4 observation entries, task 'box' has 5"),
        ({"obs_mean": [0.0] * S, "obs_std": [0.0] * S}, "obs_std must hold 5 positive numbers"),
        ({"obs_mean": [0.0] * S, "obs_std": [1.0] * 4}, "obs_std must hold 5 positive numbers"),
        ({"obs_mean": ["a"] * S, "obs_std": [1.0] * S}, "obs_mean must be a list of numbers"),
        ({"obs_mean": [[0.0]], "obs_std": [1.0]}, "obs_mean must be a list of finite numbers, got shape"),
        ({"eps_added_to_std": -1}, "eps_added_to_std must be a number >= 0, got -1"),
        ({"scale_to_bounds": "yes"}, "scale_to_bounds must be true or false, got 'yes'"),
        ({"output": [1]}, r"output must be the name or the number of an output, got \[1\]"),
    ],
)
def test_a_mistaken_sidecar_is_named(tmp_path, task, values, text):
    path = sidecar(written(tmp_path, "torchscript", network("residual")), **values)
    with pytest.raises(InputError, match=text):
        torchscript.load(path, task)


def test_a_sidecar_that_is_no_json_is_refused(tmp_path, form, task):
    path = written(tmp_path, form, network("residual"))
    path.with_suffix(".json").write_text("{")
    with pytest.raises(InputError, match="net.json' cannot be read as JSON"):
        FORMS[form][0](path, task)


def test_infinite_bounds_cannot_be_spanned(tmp_path, form):
    path = sidecar(written(tmp_path, form, network("residual")), scale_to_bounds=True)
    with pytest.raises(InputError, match="spans its actions over the bounds, which are infinite"):
        FORMS[form][0](path, program_task(low=(-np.inf, -1.0)))


def test_a_program_traced_for_one_row_says_what_it_answers_three_with(tmp_path, task):
    class OneRow(nn.Module):
        def forward(self, obs):
            return obs.reshape(-1)[:A].reshape(1, A)

    path = written(tmp_path, "torchscript", OneRow().eval())
    with pytest.raises(
        InputError, match=r"answers 3 observations of S=5 entries with shape \[1, 2\], expected \[3, 2\]"
    ):
        torchscript.load(path, task)


class LessBatchMean(nn.Module):
    """Rows that depend on each other."""

    def forward(self, obs):
        return (obs - obs.mean(0))[:, :A]


@pytest.mark.parametrize("net", [nn.Sequential(nn.Dropout(0.5), nn.Linear(S, A)).train(), LessBatchMean()])
def test_a_program_exported_in_train_mode_is_refused(tmp_path, task, net):
    path = write_script(tmp_path / "net.pt", net, traced)
    with pytest.raises(InputError, match="differently in another batch .*Export it anew after .eval"):
        torchscript.load(path, task)


def test_weights_of_another_precision_are_named(tmp_path, task):
    net = nn.Sequential(nn.Linear(S, A)).double()
    net_file = tmp_path / "net.pt"
    torch.jit.trace(net, torch.zeros(1, S, dtype=torch.float64)).save(str(net_file))
    with pytest.raises(InputError, match="cannot act on 1 observations of S=5 entries.*Float.*Double"):
        torchscript.load(net_file, task)


def test_rows_longer_than_the_widths_of_its_weights_are_no_ground_for_refusal(tmp_path):
    class Skipping(nn.Module):
        """Looks at the first entries alone, as many as its weights have columns."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, A)

        def forward(self, obs):
            return self.layer(obs[:, :3])

    path = written(tmp_path, "torchscript", Skipping().eval())
    assert torchscript.load(path, program_task(obs_dim=7))(torch.zeros(2, 7)).shape == (2, A)


class Making(nn.Module):
    """Makes a tensor of its own at each call, where the observations are."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(S, A)

    def forward(self, obs):
        return torch.maximum(self.layer(obs), torch.full([A], 0.1, device=obs.device))


def test_a_copy_acts_alike(tmp_path, form, task):
    policy, obs = FORMS[form][0](written(tmp_path, form, Making().eval()), task), observations(20)
    other = copy.deepcopy(policy)
    assert torch.equal(other(obs), policy(obs))
    for tensor in other.buffers():
        tensor.zero_()
    assert not torch.equal(other(obs), policy(obs))  # its numbers are its own


@pytest.mark.parametrize("load_form", ["torchscript", "torch_export"])
def test_what_a_program_makes_itself_lies_where_the_observations_do(tmp_path, load_form, task):
    policy = FORMS[load_form][0](written(tmp_path, load_form, Making().eval()), task)
    assert policy.to("meta")(observations(3).to("meta")).device.type == "meta"


def test_loading_leaves_random_numbers_and_threads_as_they_were(tmp_path, form, task):
    path = written(tmp_path, form, Residual().eval())
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    FORMS[form][0](path, task)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
