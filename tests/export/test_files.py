"""Exported files: what they compute in every format, what they say about themselves, what is refused."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import cdsa_lightning.export.files as files_module
from cdsa_lightning import load_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError, UnknownNameError
from cdsa_lightning.export import FORMATS, export, read_metadata, subject
from cdsa_lightning.registry import inspect_checkpoint, load_policy
from cdsa_lightning.runtime import NumpyCorrector, OnnxCorrector, OnnxPolicy
from known_networks import ACTION, OBS, gaussian_corrector
from measured_correctors import measured_corrector, questions

KINDS = [(kind, name) for kind in ("corrector", "policy") for name in FORMATS]
READERS = {"onnx": "onnx", "torchscript": "torchscript", "pt2": "torch_export"}
STEP = Coefficients(k1=1.0, units="sigma2", a2="off")


def wanted(kind, corrector, policy, subject, obs, action):
    """What PyTorch's own modules answer, in 64 bits where the correction is concerned."""
    with torch.no_grad():
        base = policy(obs.expand(2, -1, -1))[0] if kind == "policy" else action
        one = copy.deepcopy(corrector.select(1)).double()
        return one(obs.double()[None], base.double()[None], subject.coefficients)[0].numpy()


@pytest.mark.parametrize(("kind", "name"), KINDS)
@pytest.mark.parametrize("rows", [1, 2, 33])
def test_every_file_gives_what_torch_gives_for_any_number_of_rows(files, alone, corrector, policy, kind, name, rows):
    obs, action = questions(rows, rows)
    found = files[kind, name].ask(obs.numpy(), action.numpy())
    np.testing.assert_allclose(found, wanted(kind, corrector, policy, alone, obs, action), atol=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_file_says_what_it_is_and_how_well_it_was_checked(files, kind, name):
    about = read_metadata(files[kind, name].path)
    assert about["kind"] == kind
    assert about["corrector"] == {
        **{"task": "risky-pointmass", "fingerprint": "f00d", "preset": "robust", "seeds": [4, 7]},
        **{"seed": 1, "seeds_of_file": 2},
    }
    assert (about["obs_dim"], about["action_dim"], about["low"], about["high"]) == (OBS, ACTION, [-1, -1], [1, 1])
    assert about["coefficients"]["gate"] == 0.2 and about["coefficients"]["num_steps"] == 2
    assert about.get("policy") == ({"name": "clone", "seed": 0, "seeds_of_file": 2} if kind == "policy" else None)
    parity = about["parity"]
    assert parity == files[kind, name].parity.to_dict()
    assert parity["observations"] == 1000
    assert 0 < parity["max_error"] < 1e-5
    assert parity["max_error_64"] <= parity["tolerance"] < 1e-4
    assert about["versions"]["cdsa_lightning"] and about["runtime"] == FORMATS[name].runtime


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_row_that_is_not_finite_keeps_the_policys_action_and_disturbs_no_other(files, kind, name):
    obs, action = (rows.numpy() for rows in questions(3))
    whole = files[kind, name].ask(obs, action)
    obs = obs.copy()
    obs[1, 0] = np.nan
    found = files[kind, name].ask(obs, action)
    np.testing.assert_allclose(found[[0, 2]], whole[[0, 2]], atol=1e-6)
    if kind == "corrector":
        np.testing.assert_allclose(found[1], np.clip(action[1], -1, 1), atol=1e-7)


def test_the_safetensors_file_is_a_corrector_of_one_seed_with_its_coefficients(files, corrector, alone):
    path, (obs, action) = files["corrector", "safetensors"].path, questions(20)
    one = load_corrector(path)
    assert one.num_seeds == 1 and one.info["seeds"] == [7]
    assert one.coefficients == alone.coefficients
    same = corrector.select(1)(obs[None], action[None], alone.coefficients)
    torch.testing.assert_close(one(obs[None], action[None]), same)
    np.testing.assert_allclose(NumpyCorrector(path).correct(obs, action), same[0].detach(), atol=1e-5)


@pytest.mark.parametrize("name", READERS)
def test_a_fused_file_is_a_baseline_again(files, fused, name):
    from baselines.programs import program_task

    path, (obs, action) = files["policy", name].path, questions(50)
    read = load_policy(READERS[name], path, program_task(OBS, (-1.0, -1.0), (1.0, 1.0)))
    np.testing.assert_allclose(read(obs).detach(), fused.eager(obs, action), atol=1e-5)
    claims = inspect_checkpoint(path).claims
    assert list(claims) == [READERS[name]]
    assert claims[READERS[name]].obs_dim in (OBS, None) and claims[READERS[name]].action_dim in (ACTION, None)


def test_the_onnx_classes_open_their_own_kind_and_single_rows(files, alone):
    one, acting = files["corrector", "onnx"], files["policy", "onnx"]
    obs, action = (rows.numpy() for rows in questions(4))
    corrector, policy = OnnxCorrector(one.path), OnnxPolicy(acting.path)
    np.testing.assert_allclose(corrector.correct(obs[0], action[0]), one.ask(obs, action)[0], atol=1e-6)
    np.testing.assert_allclose(policy.act(obs[0]), acting.ask(obs, action)[0], atol=1e-6)
    assert policy.about["coefficients"] == alone.coefficients.to_dict()
    with pytest.raises(InputError, match="holds a policy, not a corrector: open it with OnnxPolicy"):
        OnnxCorrector(acting.path)
    with pytest.raises(InputError, match="holds a corrector, not a policy: open it with OnnxCorrector"):
        OnnxPolicy(one.path)
    with pytest.raises(InputError, match=r"Observations are \[3\] or \[B, 3\], got shape \(2,\)"):
        policy.act(np.zeros(2))
    with pytest.raises(InputError, match="one action a row"):
        corrector.correct(obs, action[:2])


def test_no_path_of_this_machine_is_in_an_onnx_or_pt2_file(files):
    for name in ("onnx", "pt2"):
        assert b"/cdsa_lightning/" not in files["policy", name].path.read_bytes()


def test_a_known_correction_is_exported_as_such(tmp_path):
    known = subject(gaussian_corrector(0.5, 0.1, (0.2,), predict="noise", bound=1.0), STEP)
    made = export(known, "torchscript", tmp_path / "c.pt")
    answer = torch.jit.load(made.path)(torch.zeros(2, OBS), torch.tensor([[0.0, 1.0], [0.5, -9.0]]))
    torch.testing.assert_close(answer, torch.tensor([[0.4, 0.6], [0.5, -1.0]]))  # .8 of the way to .5, clipped


@pytest.mark.parametrize("name", ["torchscript", "pt2", "safetensors"])
def test_the_mean_of_seeds_and_no_correction_are_exported_too(tmp_path, corrector, name):
    obs, action = questions(9)
    path = tmp_path / f"c{FORMATS[name].suffix}"
    for seed, c, one in (("mean", STEP, corrector.ensemble()), (0, Coefficients.none(), corrector.select(0))):
        made = export(subject(corrector, c, seed), name, path)
        torch.testing.assert_close(
            torch.tensor(made.ask(obs.numpy(), action.numpy())), one(obs[None], action[None], c)[0]
        )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.slow
def test_the_papers_preset_and_an_ensemble_fuse_with_policies(tmp_path, policy, name):
    paper = {"standardize": False, "predict": "score", "action_sigmas": (1.0,), "state_sigma": 1.0}
    for corrector, c, seed in (
        (measured_corrector(1, **paper), Coefficients(k1=0.1, k2=1.0, num_steps=5), 0),
        (measured_corrector(3, state_index=[2, 0]), Coefficients(k1=1.0, k2=0.5, units="sigma2", gate=0.5), "mean"),
    ):
        made = export(subject(corrector, c, seed, policy, 1), name, tmp_path / f"p{FORMATS[name].suffix}")
        obs, action = questions(30)
        one = corrector.ensemble() if seed == "mean" else corrector
        with torch.no_grad():
            base = policy(obs.expand(2, -1, -1))[1]
            same = one(obs[None], base[None], c)[0]
        np.testing.assert_allclose(made.ask(obs.numpy(), action.numpy()), same, atol=1e-5)


def test_a_file_that_computes_something_else_is_not_written(tmp_path, corrector):
    path = tmp_path / "c.pt"
    path.write_bytes(b"what was there")
    wrong = subject(corrector, STEP)
    wrong.graph.forward = lambda obs, action: action + 1e-3
    with pytest.raises(
        InputError, match="does not compute what PyTorch computes: it differs by .* Nothing was written"
    ):
        export(wrong, "torchscript", path)
    assert path.read_bytes() == b"what was there" and os.listdir(tmp_path) == ["c.pt"]


def test_an_interruption_leaves_what_was_there(tmp_path, corrector, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    path = tmp_path / "c.pt"
    path.write_bytes(b"what was there")
    monkeypatch.setattr(files_module, "check", stop)
    with pytest.raises(KeyboardInterrupt):
        export(subject(corrector, STEP), "torchscript", path)
    assert path.read_bytes() == b"what was there" and os.listdir(tmp_path) == ["c.pt"]


def test_a_killed_export_leaves_no_half_file(tmp_path, files):
    whole = files["corrector", "safetensors"].path
    code = (
        "import os, sys, cdsa_lightning.export.files as f; from cdsa_lightning import load_corrector\n"
        "f.check = lambda *_: os._exit(9)\n"
        "f.export(__import__('cdsa_lightning.export', fromlist=['x']).subject(load_corrector(sys.argv[1])),"
        " 'torchscript', sys.argv[2])"
    )
    path = tmp_path / "c.pt"
    done = subprocess.run([sys.executable, "-c", code, str(whole), str(path)], capture_output=True, timeout=120)
    assert done.returncode == 9, done.stderr
    assert not path.exists()


def test_unknown_formats_endings_and_places_are_told(tmp_path, alone):
    with pytest.raises(UnknownNameError, match="Unknown format 'tflite'.*Known: onnx, pt2, safetensors, torchscript"):
        export(alone, "tflite", tmp_path / "c.tflite")
    with pytest.raises(InputError, match="torchscript file ends in .pt, got"):
        export(alone, "torchscript", tmp_path / "c.onnx")
    with pytest.raises(InputError, match="Cannot write the exported file"):
        export(alone, "safetensors", "/proc/nowhere/c.safetensors")
    with pytest.raises(InputError, match="was not written by 'cdsa export'"):
        (tmp_path / "x.pt").write_bytes(b"x")
        read_metadata(tmp_path / "x.pt")
    with pytest.raises(InputError, match="is no exported file"):
        read_metadata(tmp_path / "x.npz")


def test_a_missing_package_is_named_with_its_extra(tmp_path, alone, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r'pip install "cdsa-lightning\[export\]"'):
        export(alone, "onnx", tmp_path / "c.onnx")
