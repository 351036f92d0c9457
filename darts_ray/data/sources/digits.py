"""scikit-learn's 1,797 handwritten digits (8x8 pixels): real images that need no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from darts_ray.config import DataConfig
from darts_ray.data.sources.base import (
    Decoded,
    Part,
    chosen_rows,
    convert_channels,
    resize_pixels,
)


class DigitsSource:
    """1,437 training and 360 test images: every fifth of those sorted by class is for the test."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def files(self, part: Part) -> list[Path]:
        """Return no files: the images come with scikit-learn."""
        return []

    def decode(self, part: Part) -> Decoded:
        """Scale the pixels from 0..16 to 0..255."""
        from sklearn.datasets import load_digits  # slow to import; only the first reader needs it

        digits = load_digits()
        by_class = np.argsort(digits.target, kind="stable")
        is_test = np.zeros(len(by_class), dtype=bool)
        is_test[by_class[::5]] = True
        of_part = np.flatnonzero(is_test == (part == "test"))
        config = self._config
        maximum = config.max_train if part == "train" else config.max_test
        rows = of_part[chosen_rows(len(of_part), maximum, config.split_seed)]
        images = np.rint(digits.images[rows, None] * (255 / 16)).astype(np.uint8)
        images = convert_channels(images, config.channels)
        if config.image_size is not None:
            images = resize_pixels(images, config.image_size)
        labels = digits.target[rows].astype(np.int64)
        return Decoded(images, labels, tuple(str(name) for name in digits.target_names))
