"""Where images come from: one reader per kind of source."""

from darts_ray.data.sources.base import Decoded, ImageSource, Part, chosen_rows
from darts_ray.data.sources.digits import DigitsSource

__all__ = ["Decoded", "DigitsSource", "ImageSource", "Part", "chosen_rows"]
