"""How far outside its data a policy acts: `audit` measures it, `Audit` is what it found."""

from cdsa_lightning.audit.findings import KINDS, Audit, Drift, Measures, Step, Walk
from cdsa_lightning.audit.measure import audit, walk
from cdsa_lightning.audit.reference import SIGMA, Reference, density_drift, p_values

__all__ = [
    "KINDS",
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
