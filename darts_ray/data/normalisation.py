"""Mean and standard deviation of pixels, given or measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from darts_ray.config import DataConfig
from darts_ray.errors import DataError

# mean and standard deviation, one number per channel each, for pixels in 0..1
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


def normalisation(
    config: DataConfig, channels: int, measured: Callable[[], Normalisation]
) -> Normalisation:
    """Return what the configuration gives, else what is measured.

    Raises:
        DataError: the configuration gives another number of channels than the images have.
    """
    if config.mean is None or config.std is None:
        return measured()
    if len(config.mean) != channels:
        raise DataError(
            f"data.mean and data.std hold {len(config.mean)} numbers, but the images have "
            f"{channels} channels: give one number per channel."
        )
    return config.mean, config.std


def count_values(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the values 0..255 of (num, channels, height, width) as (channels, 256)."""
    return np.stack(
        [np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])]
    )


def pixel_statistics(counts: NDArray[np.int64]) -> Normalisation:
    """Return mean and standard deviation per channel from counted values.

    Args:
        counts: (channels, 256), how often each value occurs.

    Returns:
        both for pixels in 0..1; a deviation below one grey level counts as one, so that
        constant images can be normalised.
    """
    value = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = counts @ value / total
    variance = (counts * (value - mean[:, None]) ** 2).sum(axis=1) / total
    std = np.maximum(np.sqrt(variance), 1 / 255)
    return tuple(mean.tolist()), tuple(std.tolist())
