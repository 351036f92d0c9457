"""One small file per search method; `methods` knows them by name."""

from darts_ray.search.baselines.random import random
from darts_ray.search.baselines.random_ws import random_ws
from darts_ray.search.methods.beta_darts import beta_darts
from darts_ray.search.methods.darts import darts
from darts_ray.search.methods.darts_pt import darts_pt
from darts_ray.search.methods.gdas import gdas
from darts_ray.search.methods.registry import MethodLike, MethodRegistry, prepare_alphas
from darts_ray.search.methods.sdarts import sdarts

methods = MethodRegistry(
    {
        "darts": darts,
        "darts_pt": darts_pt,
        "sdarts": sdarts,
        "gdas": gdas,
        "beta_darts": beta_darts,
        "random": random,
        "random_ws": random_ws,
    }
)
"""All methods; `methods.register` adds one's own."""

__all__ = ["MethodLike", "MethodRegistry", "methods", "prepare_alphas"]
