"""Search methods and their constants; the defaults are their papers'.

What a method computes is in `darts_ray.search.methods`; here is only what a user may set, and with
what it does not combine. A file holds a family of methods.
"""

from darts_ray.config.methods.base import MethodConfig
from darts_ray.config.methods.baselines import RandomConfig, RandomWSConfig
from darts_ray.config.methods.deterministic import (
    BetaDartsConfig,
    DartsConfig,
    DartsMinusConfig,
    FairDartsConfig,
    LambdaDartsConfig,
    OlesConfig,
    PCDartsConfig,
)
from darts_ray.config.methods.drawn import DrNasConfig, GdasConfig, SDartsConfig, SnasConfig
from darts_ray.config.methods.naming import METHOD_CONFIGS, AnyMethod, parse_method
from darts_ray.config.methods.projected import DartsPTConfig

_MODELS: tuple[type[MethodConfig], ...] = (
    DartsConfig,
    DartsPTConfig,
    DartsMinusConfig,
    PCDartsConfig,
    SDartsConfig,
    GdasConfig,
    DrNasConfig,
    BetaDartsConfig,
    FairDartsConfig,
    SnasConfig,
    LambdaDartsConfig,
    OlesConfig,
    RandomConfig,
    RandomWSConfig,
)
METHOD_CONFIGS.update({model.model_fields["name"].default: model for model in _MODELS})

__all__ = [
    "METHOD_CONFIGS",
    "AnyMethod",
    "BetaDartsConfig",
    "DartsConfig",
    "DartsMinusConfig",
    "DartsPTConfig",
    "DrNasConfig",
    "FairDartsConfig",
    "GdasConfig",
    "LambdaDartsConfig",
    "MethodConfig",
    "OlesConfig",
    "PCDartsConfig",
    "RandomConfig",
    "RandomWSConfig",
    "SDartsConfig",
    "SnasConfig",
    "parse_method",
]
