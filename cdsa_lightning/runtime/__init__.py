"""Correctors and exported policies without torch: NumPy, or onnxruntime, and the standard library.

NumpyCorrector("corrector.safetensors").correct(obs, action);   NumpyPolicy("policy.safetensors").act(obs)
OnnxCorrector("corrector.onnx").correct(obs, action);          OnnxPolicy("policy.onnx").act(obs)
"""

from __future__ import annotations

from cdsa_lightning.runtime.corrector import NumpyCorrector
from cdsa_lightning.runtime.policy import NumpyPolicy
from cdsa_lightning.runtime.sessions import OnnxCorrector, OnnxPolicy

__all__ = ["NumpyCorrector", "NumpyPolicy", "OnnxCorrector", "OnnxPolicy"]
