"""When to correct and how strongly: chosen among a few candidates without an environment, or searched for in one."""

from cdsa_lightning.tuning.candidates import Effect, candidates, effect
from cdsa_lightning.tuning.choice import Choice, read_choice
from cdsa_lightning.tuning.outcomes import OBJECTIVES, Outcome, episodes_with, mean_difference
from cdsa_lightning.tuning.returns import Returns, read_returns
from cdsa_lightning.tuning.rules import SELECTORS, choose, data_rule, return_rule
from cdsa_lightning.tuning.search import Judgement, Search, Trial, best_of, check_search, judge
from cdsa_lightning.tuning.space import Space
from cdsa_lightning.tuning.storage import without_password

__all__ = [
    "OBJECTIVES",
    "SELECTORS",
    "Choice",
    "Effect",
    "Judgement",
    "Outcome",
    "Returns",
    "Search",
    "Space",
    "Trial",
    "best_of",
    "candidates",
    "check_search",
    "choose",
    "data_rule",
    "effect",
    "episodes_with",
    "judge",
    "mean_difference",
    "read_choice",
    "read_returns",
    "return_rule",
    "without_password",
]
