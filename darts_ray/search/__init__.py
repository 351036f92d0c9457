"""How alphas and weights are optimised together."""

from darts_ray.config import SearchOptimConfig
from darts_ray.search.build import build_supernet
from darts_ray.search.methods import methods
from darts_ray.search.run import SearchRun
from darts_ray.search.spectrum import dominant_eigenvalue
from darts_ray.search.step.bilevel import BilevelStep, StepResult

__all__ = [
    "BilevelStep",
    "SearchOptimConfig",
    "SearchRun",
    "StepResult",
    "build_supernet",
    "dominant_eigenvalue",
    "methods",
]
