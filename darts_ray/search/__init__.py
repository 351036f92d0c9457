"""How alphas and weights are optimised together."""

from darts_ray.config import SearchOptimConfig
from darts_ray.search.bilevel import BilevelStep, StepResult

__all__ = ["BilevelStep", "SearchOptimConfig", "StepResult"]
