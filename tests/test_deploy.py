"""One line for any policy: kinds of policies and observations, explanations in closed form, wrapped environments."""

import gymnasium as gym
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import cdsa_lightning as cdsa
from cdsa_lightning.core.artifact import save_corrector
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.errors import InputError
from known_networks import ACTION, OBS, gaussian_corrector, random_corrector

MEAN, STD, SIGMA = 0.5, 0.1, 0.2
STEP = cdsa.Coefficients(k1=1.0, units="sigma2", a2="off")


@pytest.fixture
def corrector():
    """Knows that a | s ~ N(.5, .1^2); one denoising step at sigma .2 goes .8 of the way to the mean."""
    return gaussian_corrector(MEAN, STD, (SIGMA,), predict="noise", bound=1.0)


def double(obs):
    return 2 * obs[..., :ACTION]


def corrected(base):
    base = np.clip(base, -1, 1)
    return base + SIGMA**2 / (STD**2 + SIGMA**2) * (MEAN - base)


class Linear(nn.Module):
    def forward(self, obs):
        return 2 * obs[:, :ACTION]


class StableBaselines:
    def predict(self, obs, deterministic=False):
        assert deterministic
        assert obs.dtype == np.float32
        return 2 * obs[:, :ACTION], None


class D3rlpy:
    def predict(self, x):
        return 2 * x[:, :ACTION]


def session():
    first = onnx.numpy_helper.from_array(2 * np.eye(OBS, ACTION, dtype=np.float32), "w")
    io = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["b", d]) for n, d in (("x", OBS), ("y", 2))]
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g", io[:1], io[1:], [first])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString())


POLICIES = {
    "function": double,
    "network": Linear(),
    "policy": cdsa.FunctionPolicy(double, [-1.0] * ACTION, [1.0] * ACTION),
    "stable_baselines": StableBaselines(),
    "d3rlpy": D3rlpy(),
    "onnx": session(),
}


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize("shape", [(OBS,), (1, OBS), (7, OBS)])
def test_every_kind_of_policy_is_corrected_by_the_closed_form(corrector, kind, shape):
    safe = cdsa.correct(POLICIES[kind], corrector, STEP)
    obs = np.random.default_rng(0).uniform(-1, 1, shape)
    action = safe(obs)
    assert isinstance(action, np.ndarray)
    assert action.shape == (*shape[:-1], ACTION)
    assert np.allclose(action, corrected(2 * obs[..., :ACTION]), atol=1e-6)
    given = torch.tensor(obs, dtype=torch.float32)
    assert isinstance(safe(given), torch.Tensor)
    assert torch.allclose(safe(given).double(), torch.tensor(action).double(), atol=1e-6)


def test_numbers_stay_as_precise_as_the_policys(corrector):
    for kind in (np.float32, np.float64):
        assert cdsa.correct(double, corrector, STEP)(np.zeros(OBS, kind)).dtype == kind
    assert cdsa.correct(double, corrector, STEP)(torch.zeros(OBS, dtype=torch.float64)).dtype == torch.float64
    assert cdsa.correct(double, corrector, STEP)([0.0] * OBS).shape == (ACTION,)


def test_an_explanation_adds_up(corrector):
    data = torch.randn(20_000, ACTION, generator=torch.Generator().manual_seed(0)) * STD + MEAN
    corrector.measure_noise(torch.zeros(len(data), OBS), data)
    safe = cdsa.correct(double, corrector, STEP)
    obs = np.array([[0.25, 0.25, 0.0], [2.0, 0.1, 0.0]])
    parts = safe.explain(obs)
    assert np.allclose(parts.base_action, [[0.5, 0.5], [1.0, 0.2]])  # 4 is beyond the bound
    assert np.allclose(parts.action, parts.base_action + parts.a1)
    assert np.allclose(parts.shift, parts.a1)
    assert not parts.a2.any()
    assert parts.clipped.tolist() == [False, False]
    assert np.allclose(parts.p_value, [1.0, 0.0])  # the most usual action, and one beyond all of the data
    # |a - mean| / std of two independent normals has the distribution 1 - exp(-r^2 / 2).
    usual = safe.explain(np.array([MEAN + STD, MEAN + STD, 0.0]) / 2).p_value
    assert usual == pytest.approx(np.exp(-1), abs=0.02)


def test_without_the_datas_noise_nothing_is_known_about_how_usual_an_action_is(corrector):
    assert np.isnan(cdsa.correct(double, corrector, STEP).explain(np.zeros(OBS)).p_value)
    with pytest.raises(InputError, match="gate needs the data's noise"):
        cdsa.correct(double, corrector, cdsa.Coefficients(k1=1.0, units="sigma2", a2="off", gate=0.9))


def test_k_zero_is_the_identity_within_the_bounds(corrector):
    obs = np.random.default_rng(1).uniform(-2, 2, (50, OBS))
    safe = cdsa.correct(double, corrector, cdsa.Coefficients.none())
    assert np.array_equal(safe(obs), np.clip(2 * obs[:, :ACTION], -1, 1))


def test_one_of_the_seeds_corrects_or_their_mean():
    two = gaussian_corrector(MEAN, STD, (SIGMA,), seeds=2, predict="noise", bound=1.0)
    layer = two.networks.action_score.layers[0]
    layer.bias.data[1] *= 2  # the second seed believes in a mean of 1
    found = [cdsa.correct(double, two, STEP, seed=seed)(np.zeros(OBS)) for seed in (0, 1, "mean")]
    assert np.allclose(found, [[0.4] * 2, [0.8] * 2, [0.6] * 2], atol=1e-6)


@pytest.mark.parametrize(
    "policy, obs, text",
    [
        (3, np.zeros(OBS), "Cannot ask a int for actions"),
        (double, np.zeros(OBS + 1), r"observations \[S\] or \[B, S\] with 3 entries, got shape \(4,\)"),
        (double, np.zeros((1, 1, OBS)), r"got shape \(1, 1, 3\)"),
        (double, np.array([0.0, np.nan, 0.0]), "1 entries of the observations are NaN"),
        (lambda obs: obs, np.zeros(OBS), r"actions of the policy .* with 2 entries, got shape \(3,\)"),
        (
            lambda obs: np.zeros((2, ACTION)),
            np.zeros((3, OBS)),
            r"answered observations \(3, 3\) with actions \(2, 2\)",
        ),
        (lambda obs: np.full(ACTION, np.inf), np.zeros(OBS), "2 entries of the actions of the policy are NaN"),
    ],
)
def test_what_cannot_be_corrected_is_told(corrector, policy, obs, text):
    with pytest.raises(InputError, match=text):
        cdsa.correct(policy, corrector, STEP)(obs)


def test_seeds_that_are_not_there_are_told(corrector):
    with pytest.raises(InputError, match="no seed 3"):
        cdsa.correct(double, corrector, STEP, seed=3)
    with pytest.raises(InputError, match="'mean', got 'median'"):
        cdsa.correct(double, corrector, STEP, seed="median")


class Echo(gym.Env):
    """Remembers the action that it was given."""

    observation_space = gym.spaces.Box(-9, 9, (OBS,))
    action_space = gym.spaces.Box(-1, 1, (ACTION,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(OBS, np.float32), {}

    def step(self, action):
        self.given = action
        return np.ones(OBS, np.float32), 0.0, False, False, {"mine": 1}


def test_a_file_and_what_was_loaded_from_it_correct_alike(tmp_path):
    path = save_corrector(random_corrector(2, bound=1.0, action_sigmas=(SIGMA,)), tmp_path / "corrector.safetensors")
    obs = np.ones(OBS)
    assert np.array_equal(
        cdsa.correct(double, path, STEP)(obs), cdsa.correct(double, cdsa.load_corrector(path), STEP)(obs)
    )
    assert not np.array_equal(cdsa.correct(double, path, STEP)(obs), cdsa.correct(double, path, STEP, seed=1)(obs))


def test_an_environment_corrects_what_it_is_given(corrector):
    env = cdsa.CorrectActions(Echo(), corrector, STEP)
    env.reset(seed=0)
    *_, info = env.step(np.array([0.5, 1.0], np.float32))
    assert np.allclose(env.unwrapped.given, [0.5, 0.6], atol=1e-6)
    assert env.unwrapped.given.dtype == np.float32
    assert info["mine"] == 1
    assert info["shift"] == pytest.approx(0.4, abs=1e-6)
    assert isinstance(env.safe.corrector, Corrector)
    with pytest.raises(InputError, match="no policy to ask"):
        env.safe(np.zeros(OBS))
