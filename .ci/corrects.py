"""Actions are corrected by what is installed here: corrects.py torch | numpy, beside a corrector and a fused policy."""

import sys

import numpy as np

obs, action = np.full(4, 0.5, np.float32), np.array([0.1, -0.1], np.float32)
if sys.argv[1] == "torch":
    import torch

    import cdsa_lightning as cdsa

    settings = cdsa.Coefficients(k1=1.0, units="sigma2", a2="off", clip="every_step")
    found = cdsa.correct(lambda obs: action, "corrector.safetensors", settings)(obs)
    rows = np.random.default_rng(0).uniform(0, 1, (50, 4)).astype(np.float32)
    policy = cdsa.load_policy("shortest_path", None, cdsa.get_task("risky-pointmass"))
    fused = cdsa.CorrectedPolicy(policy, cdsa.load_corrector("policy.safetensors"))
    np.savez("corrected.npz", found=found, rows=rows, fused=fused(torch.from_numpy(rows)).numpy())
else:
    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.runtime import NumpyCorrector, NumpyPolicy

    settings = Coefficients(k1=1.0, units="sigma2", a2="off", clip="every_step")
    found = NumpyCorrector("corrector.safetensors", settings).correct(obs, action)
    expected = np.load("corrected.npz")
    if np.abs(found - expected["found"]).max() > 1e-6:
        sys.exit(f"NumPy corrects to {found}, torch to {expected['found']}.")
    fused = NumpyPolicy("policy.safetensors").act(expected["rows"])
    if np.abs(fused - expected["fused"]).max() > 1e-5:
        sys.exit("The fused policy acts in NumPy otherwise than in torch.")
    if {"torch", "onnxruntime"} & set(sys.modules):
        sys.exit("The NumPy runtime imports torch or onnxruntime.")
if np.array_equal(found, action) or np.abs(found).max() > np.float32(0.1):
    sys.exit(f"{action} became {found}: uncorrected or beyond the bounds.")
print(f"{sys.argv[1]}: {action} -> {found}")
