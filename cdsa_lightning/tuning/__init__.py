"""When to correct and how strongly, chosen among a few candidates without touching the environment."""

from cdsa_lightning.tuning.candidates import Effect, candidates, effect
from cdsa_lightning.tuning.choice import Choice, read_choice
from cdsa_lightning.tuning.returns import Returns, read_returns
from cdsa_lightning.tuning.rules import SELECTORS, choose, data_rule, return_rule

__all__ = [
    "SELECTORS",
    "Choice",
    "Effect",
    "Returns",
    "candidates",
    "choose",
    "data_rule",
    "effect",
    "read_choice",
    "read_returns",
    "return_rule",
]
