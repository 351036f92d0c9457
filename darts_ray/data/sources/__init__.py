"""Where images come from: one reader per kind of source."""

from darts_ray.config import DataConfig
from darts_ray.data.sources.base import Decoded, ImageSource, Part
from darts_ray.data.sources.digits import DigitsSource
from darts_ray.data.sources.parquet import ParquetSource
from darts_ray.data.sources.torchvision_sets import TorchvisionSource

__all__ = ["Decoded", "ImageSource", "Part", "image_source"]


def image_source(config: DataConfig) -> ImageSource:
    """Return the reader of a dataset that fits in memory: all sources but image_folder."""
    if config.source == "digits":
        return DigitsSource(config)
    return ParquetSource(config) if config.source == "parquet" else TorchvisionSource(config)
