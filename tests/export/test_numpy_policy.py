"""`NumpyPolicy`: what it is asked, what else a fused file is, and what is told of files that are none."""

import numpy as np
import pytest

from cdsa_lightning.core.artifact import load_corrector, save_corrector
from cdsa_lightning.errors import InputError
from cdsa_lightning.runtime import NumpyCorrector, NumpyPolicy
from known_networks import ACTION, OBS
from measured_correctors import questions


def test_single_rows_lists_and_no_rows_are_answered_and_other_shapes_refused(files):
    policy, (obs, _) = NumpyPolicy(files["policy", "safetensors"].path), questions(4)
    whole = policy.act(obs.numpy())
    assert whole.shape == (4, ACTION) and policy.act(obs[:0].numpy()).shape == (0, ACTION)
    for one in (obs[2].numpy(), obs[2].tolist(), obs[2].double().numpy()):
        found = policy(one)
        assert found.shape == (ACTION,) and found.dtype == np.float32
        np.testing.assert_allclose(found, whole[2], atol=1e-6)
    for wrong in (np.zeros(2), np.zeros((2, 4)), np.zeros((1, 2, OBS)), 0.0):
        with pytest.raises(InputError, match=r"Observations are \[3\] or \[B, 3\], got shape"):
            policy.act(wrong)


def test_a_fused_file_says_what_it_is_and_a_corrector_alone_is_told(files, alone):
    policy = NumpyPolicy(files["policy", "safetensors"].path)
    assert policy.about["kind"] == "policy" and policy.about["coefficients"] == alone.coefficients.to_dict()
    assert (policy.obs_dim, policy.action_dim) == (OBS, ACTION)
    with pytest.raises(InputError, match="holds a corrector, not a policy: open it with NumpyCorrector"):
        NumpyPolicy(files["corrector", "safetensors"].path)
    with pytest.raises(InputError, match="There is no corrector file"):
        NumpyPolicy("gone.safetensors")


def test_the_corrector_in_a_fused_file_can_be_asked_alone(files, tmp_path):
    path, (obs, action) = files["policy", "safetensors"].path, questions(30)
    wanted = files["corrector", "safetensors"].ask(obs.numpy(), action.numpy())
    corrector = load_corrector(path)
    np.testing.assert_allclose(NumpyCorrector(path).correct(obs, action), wanted, atol=1e-6)
    np.testing.assert_allclose(corrector(obs[None], action[None])[0], wanted, atol=1e-5)
    with pytest.raises(InputError, match="holds a corrector, not a policy"):
        NumpyPolicy(save_corrector(corrector, tmp_path / "alone.safetensors"))


def test_a_bit_of_the_policys_weights_that_changes_is_noticed(files, tmp_path):
    path = tmp_path / "policy.safetensors"
    content = bytearray(files["policy", "safetensors"].path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for read in (NumpyPolicy, NumpyCorrector, load_corrector):
        with pytest.raises(InputError, match="its digest is not that of its bytes"):
            read(path)
