"""Exported ONNX files with onnxruntime: `OnnxPolicy` acts, `OnnxCorrector` corrects. No torch is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cdsa_lightning.errors import InputError
from cdsa_lightning.runtime.corrector import check_rows

__all__ = ["KEY", "OnnxCorrector", "OnnxPolicy", "open_session"]

KEY = "cdsa"
"""Under which an exported file keeps what it says about itself."""


def open_session(path: str | Path) -> Any:
    """A session of one thread: a second one costs more than it helps in networks of this size.

    Raises:
        InputError: onnxruntime is missing or refuses the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            'onnxruntime is not installed: pip install "cdsa-lightning[onnx]", or onnxruntime alone where torch is not '
            "wanted."
        ) from None
    if not Path(path).is_file():
        raise InputError(f"There is no ONNX file {path}. Make one with 'cdsa export --format onnx'.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised as well
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an error class for each kind of damage.
        raise InputError(f"{path} is refused by onnxruntime: {str(error)[:300]}. Export it anew.") from error


class _Exported:
    """A file of `cdsa export --format onnx`.

    Attributes:
        about: What the file says about itself: task, coefficients, parity, ...
    """

    kind = ""

    def __init__(self, path: str | Path) -> None:
        self.session = open_session(path)
        text = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        try:
            self.about: dict[str, Any] = json.loads(text)
            found, self.obs_dim, self.action_dim = (self.about[key] for key in ("kind", "obs_dim", "action_dim"))
        except (TypeError, ValueError, KeyError, RecursionError):
            raise InputError(f"{path} was not written by 'cdsa export --format onnx'.") from None
        if found != self.kind:
            raise InputError(
                f"{path} holds a {found}, not a {self.kind}: open it with "
                f"{'OnnxPolicy' if found == 'policy' else 'OnnxCorrector'}."
            )


class OnnxPolicy(_Exported):
    """A policy with its correction inside.

    Args:
        path: The file.

    Raises:
        InputError: missing, damaged, not exported here, a corrector alone, or onnxruntime is not installed.
    """

    kind = "policy"

    def act(self, obs: Any) -> np.ndarray:
        """The corrected action, [A] or [B, A], of an observation [S] or [B, S].

        Raises:
            InputError: another shape.
        """
        rows = check_rows(obs, self.obs_dim, "Observations")
        if rows.ndim == 2:
            return self.session.run(None, {"obs": rows})[0]
        return self.session.run(None, {"obs": rows[None]})[0][0]

    __call__ = act


class OnnxCorrector(_Exported):
    """A corrector.

    Args:
        path: The file.

    Raises:
        InputError: missing, damaged, not exported here, fused with a policy, or onnxruntime is not installed.
    """

    kind = "corrector"

    def correct(self, obs: Any, action: Any) -> np.ndarray:
        """The corrected action, [A] or [B, A], of an observation [S] or [B, S] and the policy's action.

        Raises:
            InputError: shapes that are not the corrector's.
        """
        rows = check_rows(obs, self.obs_dim, "Observations")
        base = check_rows(action, self.action_dim, "Actions")
        if rows.shape[:-1] != base.shape[:-1]:
            raise InputError(f"Observations {rows.shape} come with actions {base.shape}: one action a row.")
        if rows.ndim == 2:
            return self.session.run(None, {"obs": rows, "action": base})[0]
        return self.session.run(None, {"obs": rows[None], "action": base[None]})[0][0]

    __call__ = correct
