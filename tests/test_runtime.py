"""The runtime without torch: closed forms, parity with torch in 64 bits, bad input, and that torch is not needed."""

import copy
import json
import struct

import numpy as np
import pytest
import torch

from cdsa_lightning.core.artifact import save_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.nets import inverse_dynamics_net, score_net
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.errors import InputError
from cdsa_lightning.files import seal
from cdsa_lightning.runtime import NumpyCorrector
from cdsa_lightning.runtime.folding import INVERSE_SLOPE, SCORE_SLOPE
from known_networks import ACTION, OBS, gaussian_corrector
from measured_correctors import measured_corrector, questions

STEP = Coefficients(k1=1.0, units="sigma2", a2="off")
BOTH = Coefficients(k1=0.7, k2=0.5, units="sigma2", num_steps=2)
PAPER = {"standardize": False, "predict": "score", "action_sigmas": (1.0,), "state_sigma": 1.0}


def written(tmp_path, corrector):
    return save_corrector(corrector, tmp_path / "corrector.safetensors")


def exact(corrector, c, obs, action):
    """The correction of one seed, or of an ensemble, in 64 bits."""
    with torch.no_grad():
        answer = copy.deepcopy(corrector).double()(obs.double()[None], action.double()[None], c)
    return answer[0].numpy()


def test_one_denoising_step_goes_the_known_share_of_the_way(tmp_path):
    path = written(tmp_path, gaussian_corrector(0.5, 0.1, (0.2,), predict="noise", bound=1.0))
    found = NumpyCorrector(path, STEP).correct(np.zeros(OBS), np.array([0.0, 1.0]))
    assert found == pytest.approx([0.4, 0.6], abs=1e-6)  # .04 / (.01 + .04) of the way to .5
    assert found.dtype == np.float32


def test_the_inverse_dynamics_follow_the_known_state_score(tmp_path):
    path = written(tmp_path, gaussian_corrector(0.5, 0.1, (0.2,), predict="noise", bound=9.0, state_sigma=1.0))
    c = Coefficients(k2=1.0, units="sigma2", state_step=0.5)
    # One step from s towards 0 under N(0, 1) at sigma 1 is -s / 2; I(s, s') = s' - s; half of the step, k2 = 1.
    assert NumpyCorrector(path, c).correct([0.8, -0.4, 0.0], [0.0, 0.0]) == pytest.approx([-0.2, 0.1], abs=1e-6)


@pytest.mark.parametrize("sees", [None, [2, 0]])
@pytest.mark.parametrize("settings", [{}, {"state_score_input": "state"}, {"predict": "score"}, PAPER])
@pytest.mark.parametrize(
    "c",
    [
        STEP,
        BOTH,
        Coefficients(k1=0.1, k2=1.0),
        Coefficients(k2=0.4, a2="residual", state_step=2.0),
        Coefficients(k1=1.0, units="sigma2", gate=0.5),
        Coefficients(k2=1.0, units="sigma2", a2="residual", gate=0.8, num_steps=3, clip="every_step"),
        Coefficients(k1=2.0, k2=2.0, units="sigma2", max_shift=0.3, clip="every_step", num_steps=2),
        Coefficients(k1=0.5, schedule=(1.0,), num_steps=3, a2="off"),
    ],
)
def test_every_setting_gives_what_torch_gives(tmp_path, sees, settings, c):
    if c.schedule and settings is not PAPER:
        c = Coefficients(k1=0.5, schedule=(0.1, 0.4, 0.1), num_steps=2, a2="off", units="sigma2")
    corrector, (obs, action) = measured_corrector(3, state_index=sees, **settings), questions(200)
    path = written(tmp_path, corrector)
    for seed in (0, 2, "mean"):
        one = corrector.ensemble() if seed == "mean" else corrector.select(seed)
        wanted = exact(one, c, obs, action)
        assert np.abs(wanted - action.numpy()).max() > 0.01  # it corrects
        double = NumpyCorrector(path, c, seed, np.float64).correct(obs, action)
        np.testing.assert_allclose(double, wanted, atol=1e-9)
        np.testing.assert_allclose(NumpyCorrector(path, c, seed).correct(obs, action), wanted, atol=1e-5)


def test_a_gate_of_seeds_and_of_their_mean_is_open_where_torch_opens_it(tmp_path):
    corrector, (obs, action) = measured_corrector(2), questions(300)
    c, path = Coefficients(k1=1.0, units="sigma2", a2="off", gate=0.6), written(tmp_path, corrector)
    inside = np.clip(action.numpy(), -1, 1)
    for seed, one in ((1, corrector.select(1)), ("mean", corrector.ensemble())):
        found = NumpyCorrector(path, c, seed).correct(obs, inside)
        shut = (found == inside).all(-1)
        assert 0.05 < shut.mean() < 0.95
        assert (shut == (exact(one, c, obs, torch.from_numpy(inside)) == inside).all(-1)).all()


def test_rows_do_not_know_of_each_other(tmp_path):
    path, (obs, action) = written(tmp_path, measured_corrector(2)), questions(40)
    for seed in (0, "mean"):
        corrector = NumpyCorrector(path, BOTH, seed)
        whole = corrector.correct(obs, action)
        order = np.random.default_rng(0).permutation(40)
        np.testing.assert_allclose(corrector.correct(obs[order], action[order]), whole[order], atol=1e-6)
        one = corrector.correct(obs[7], action[7])
        assert one.shape == (ACTION,)
        np.testing.assert_allclose(one, whole[7], atol=1e-6)
        assert corrector.correct(obs[:0], action[:0]).shape == (0, ACTION)


def test_nothing_that_was_given_is_changed(tmp_path):
    corrector, (obs, action) = NumpyCorrector(written(tmp_path, measured_corrector()), BOTH), questions(5)
    before = obs.numpy().copy(), action.numpy().copy()
    first, second = (corrector.correct(obs.numpy(), action.numpy()) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(obs, before[0]) and np.array_equal(action, before[1])


def test_no_coefficients_are_the_identity(tmp_path):
    path, (obs, action) = written(tmp_path, measured_corrector()), questions(5)
    assert np.array_equal(NumpyCorrector(path, Coefficients.none()).correct(obs, action), action)


def test_a_row_that_is_not_finite_keeps_its_action_within_the_bounds(tmp_path):
    corrector, (obs, action) = NumpyCorrector(written(tmp_path, measured_corrector()), BOTH), questions(3)
    wanted = corrector.correct(obs, action)
    obs[1, 0] = float("nan")
    found = corrector.correct(obs, action)
    np.testing.assert_allclose(found[1], np.clip(action[1], -1, 1))
    np.testing.assert_allclose(found[[0, 2]], wanted[[0, 2]], atol=1e-6)


def test_an_ensembles_file_answers_with_its_mean(tmp_path):
    corrector, (obs, action) = measured_corrector(3), questions(20)
    mean = NumpyCorrector(written(tmp_path, corrector), STEP, "mean").correct(obs, action)
    path = save_corrector(corrector.ensemble(), tmp_path / "mean.safetensors")
    np.testing.assert_allclose(NumpyCorrector(path, STEP).correct(obs, action), mean, atol=1e-6)
    with pytest.raises(InputError, match="the mean of 3 seeds"):
        NumpyCorrector(path, STEP, 1)


def test_the_slopes_are_those_of_the_networks():
    assert score_net(2, 2, init_generators([0])).activation.slope == SCORE_SLOPE
    assert inverse_dynamics_net(2, 2, init_generators([0])).activation.slope == INVERSE_SLOPE


@pytest.mark.parametrize(
    ("seed", "c", "text"),
    [
        (2, STEP, "no seed 2; the corrector holds 2"),
        (-1, STEP, "no seed -1"),
        ("median", STEP, "'mean', got 'median'"),
        (0, Coefficients(k1=1.0, schedule=(0.7,)), r"No action score was trained at sigma 0.7; trained: \[0.4, 0.1\]"),
    ],
)
def test_a_seed_or_sigma_that_is_not_there_is_told(tmp_path, seed, c, text):
    with pytest.raises(InputError, match=text):
        NumpyCorrector(written(tmp_path, measured_corrector(2)), c, seed)


def test_a_gate_without_the_datas_noise_is_refused(tmp_path):
    path = written(tmp_path, gaussian_corrector(0.5, 0.1, (0.2,), predict="noise"))
    with pytest.raises(InputError, match="gate needs the data's noise"):
        NumpyCorrector(path, Coefficients(k1=1.0, gate=0.9))


@pytest.mark.parametrize(
    ("obs", "action", "text"),
    [
        (np.zeros(4), np.zeros(2), r"Observations are \[3\] or \[B, 3\], got shape \(4,\)"),
        (np.zeros(3), np.zeros(3), r"Actions are \[2\] or \[B, 2\], got shape \(3,\)"),
        (np.zeros((1, 1, 3)), np.zeros((1, 1, 2)), r"got shape \(1, 1, 3\)"),
        (np.zeros((4, 3)), np.zeros((1, 2)), "one action a row"),
        (np.float32(0), np.zeros(2), r"got shape \(\)"),
    ],
)
def test_shapes_that_do_not_fit_are_told(tmp_path, obs, action, text):
    with pytest.raises(InputError, match=text):
        NumpyCorrector(written(tmp_path, measured_corrector()), STEP).correct(obs, action)


def tampered(path, change):
    """The file with its table of tensors changed."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])
    change(table)
    text = json.dumps(table).encode()
    path.write_bytes(seal(struct.pack("<Q", len(text)) + text + content[8 + length :]))  # else the digest says it all
    return path


def entry(name, **values):
    return lambda table: table[name].update(values)


def header(**values):
    def change(table):
        table["__metadata__"]["cdsa"] = json.dumps(json.loads(table["__metadata__"]["cdsa"]) | values)

    return change


@pytest.mark.parametrize(
    "change",
    [
        entry("low", shape=[1 << 60], data_offsets=[0, 1 << 62]),
        entry("low", data_offsets=[8, 0]),
        entry("low", data_offsets=[-8, 0]),
        entry("low", shape=[-1, -2]),
        entry("low", shape=[2.0]),
        entry("low", shape="2"),
        entry("low", dtype="F64"),
        entry("networks.action_score.layers.0.weight", shape=[32, 5, 1]),
        lambda table: table.pop("networks.obs_std"),
        lambda table: table.pop("networks.inverse_dynamics.layers.0.bias"),
        lambda table: table.update(low=[]),
        header(obs_dim=7),
        header(obs_dim=1 << 40),
        header(action_dim=9),
        header(state_index=[0, 1, 9]),
        header(state_index=[0, 1, True]),
        header(networks={}),
        header(networks="x"),
        header(networks=PAPER | {"standardize": None}),
        header(networks=PAPER | {"state_sigma": [1.0]}),
        header(coefficients={"k9": 1}),
        header(coefficients=None),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    path = tampered(written(tmp_path, measured_corrector()), change)
    with pytest.raises(InputError, match="is damaged|not a corrector"):
        NumpyCorrector(path)


def test_a_file_that_ends_early_or_holds_nan_is_refused(tmp_path):
    path = written(tmp_path, measured_corrector())
    content = path.read_bytes()
    path.write_bytes(seal(content[:-8]))
    with pytest.raises(InputError, match="claims bytes"):
        NumpyCorrector(path)
    path.write_bytes(seal(content[:-4] + struct.pack("<f", float("nan"))))
    with pytest.raises(InputError, match="not finite"):
        NumpyCorrector(path)
    with pytest.raises(InputError, match="There is no corrector file"):
        NumpyCorrector(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.999])
def test_one_changed_bit_is_noticed(tmp_path, place):
    path = written(tmp_path, measured_corrector())
    content = bytearray(path.read_bytes())
    NumpyCorrector(path)
    content[int(place * len(content))] ^= 1  # the lowest bit of a number, or a letter of the header
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="its digest is not that of its bytes|header cannot be read"):
        NumpyCorrector(path)
