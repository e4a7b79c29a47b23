"""How far outside its data a policy acts: `audit` measures it, `Audit` is what it found."""

from cdsa_lightning.audit.findings import (
    FAR_BIAS,
    INSIDE_F99,
    INSIDE_R,
    KINDS,
    MILD_F99,
    NOISY_BIAS,
    NOISY_RHO,
    NOISY_SHARE,
    RANDOM_SPREAD,
    Audit,
    Drift,
    Measures,
    Step,
    Walk,
)
from cdsa_lightning.audit.measure import audit, walk
from cdsa_lightning.audit.reference import SIGMA, Reference, density_drift, p_values

__all__ = [
    "FAR_BIAS",
    "INSIDE_F99",
    "INSIDE_R",
    "KINDS",
    "MILD_F99",
    "NOISY_BIAS",
    "NOISY_RHO",
    "NOISY_SHARE",
    "RANDOM_SPREAD",
    "SIGMA",
    "Audit",
    "Drift",
    "Measures",
    "Reference",
    "Step",
    "Walk",
    "audit",
    "density_drift",
    "p_values",
    "walk",
]
