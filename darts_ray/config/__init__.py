"""Configuration: typed models, YAML in, resolved YAML out."""

from darts_ray.config.data import AugmentConfig, ColorJitter, DataConfig
from darts_ray.config.export import ExportSection
from darts_ray.config.reading.axes import Axis
from darts_ray.config.reading.ineffective import ineffective_options
from darts_ray.config.reading.loading import (
    apply_override,
    build_config,
    load_config,
    load_dataset,
    parse_yaml,
    to_yaml,
)
from darts_ray.config.retrain import (
    ConvNetworkConfig,
    RecurrentNetworkConfig,
    RetrainConfig,
    RetrainOptimConfig,
    TrainingRecipe,
)
from darts_ray.config.search import (
    ConvSupernetConfig,
    RecurrentDropoutConfig,
    RecurrentSupernetConfig,
    SearchConfig,
    SearchOptimConfig,
)
from darts_ray.config.sections import (
    ResourcesSection,
    TrackingSection,
    TuneSection,
)
from darts_ray.config.space import SpaceConfig
from darts_ray.config.study import RetrainSection, SelectSection, StudyConfig, TopCells

__all__ = [
    "AugmentConfig",
    "Axis",
    "ColorJitter",
    "ConvNetworkConfig",
    "ConvSupernetConfig",
    "DataConfig",
    "ExportSection",
    "RecurrentDropoutConfig",
    "RecurrentNetworkConfig",
    "RecurrentSupernetConfig",
    "ResourcesSection",
    "RetrainConfig",
    "RetrainOptimConfig",
    "RetrainSection",
    "SearchConfig",
    "SearchOptimConfig",
    "SelectSection",
    "SpaceConfig",
    "StudyConfig",
    "TopCells",
    "TrackingSection",
    "TrainingRecipe",
    "TuneSection",
    "apply_override",
    "build_config",
    "ineffective_options",
    "load_config",
    "load_dataset",
    "parse_yaml",
    "to_yaml",
]
