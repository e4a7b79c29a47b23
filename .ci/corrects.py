"""An action is corrected by what is installed here: corrects.py torch | numpy, beside a corrector.safetensors."""

import sys

import numpy as np

obs, action = np.full(4, 0.5, np.float32), np.array([0.1, -0.1], np.float32)
if sys.argv[1] == "torch":
    import cdsa_lightning as cdsa

    settings = cdsa.Coefficients(k1=1.0, units="sigma2", a2="off", clip="every_step")
    found = cdsa.correct(lambda obs: action, "corrector.safetensors", settings)(obs)
    np.save("corrected.npy", found)
else:
    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.runtime import NumpyCorrector

    settings = Coefficients(k1=1.0, units="sigma2", a2="off", clip="every_step")
    found = NumpyCorrector("corrector.safetensors", settings).correct(obs, action)
    expected = np.load("corrected.npy")
    if np.abs(found - expected).max() > 1e-6:
        sys.exit(f"NumPy corrects to {found}, torch to {expected}.")
    if "torch" in sys.modules:
        sys.exit("The NumPy runtime imports torch.")
if np.array_equal(found, action) or np.abs(found).max() > np.float32(0.1):
    sys.exit(f"{action} became {found}: uncorrected or beyond the bounds.")
print(f"{sys.argv[1]}: {action} -> {found}")
