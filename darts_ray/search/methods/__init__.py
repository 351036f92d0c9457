"""One small file per search method; `methods` knows them by name."""

from darts_ray.search.baselines.random import random
from darts_ray.search.baselines.random_ws import random_ws
from darts_ray.search.methods.beta_darts import beta_darts
from darts_ray.search.methods.darts import darts
from darts_ray.search.methods.darts_minus import darts_minus
from darts_ray.search.methods.darts_pt import darts_pt
from darts_ray.search.methods.fair_darts import fair_darts
from darts_ray.search.methods.lambda_darts import lambda_darts
from darts_ray.search.methods.oles import oles
from darts_ray.search.methods.pc_darts import pc_darts
from darts_ray.search.methods.sampling.drnas import drnas
from darts_ray.search.methods.sampling.gdas import gdas
from darts_ray.search.methods.sampling.snas import snas
from darts_ray.search.methods.sdarts import sdarts
from darts_ray.search.registry import MethodLike, MethodRegistry, prepare_alphas

methods = MethodRegistry(
    {
        "darts": darts,
        "darts_pt": darts_pt,
        "darts_minus": darts_minus,
        "pc_darts": pc_darts,
        "sdarts": sdarts,
        "gdas": gdas,
        "drnas": drnas,
        "beta_darts": beta_darts,
        "fair_darts": fair_darts,
        "snas": snas,
        "lambda_darts": lambda_darts,
        "oles": oles,
        "random": random,
        "random_ws": random_ws,
    }
)
"""All methods; `methods.register` adds one's own."""

__all__ = ["MethodLike", "MethodRegistry", "methods", "prepare_alphas"]
