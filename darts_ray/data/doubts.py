"""Settings that are possible, but hardly meant: said once, and then followed."""

from __future__ import annotations

import functools
import logging

from darts_ray.config import AugmentConfig
from darts_ray.data.dataset import ImageInfo

_log = logging.getLogger(__name__)


def warn_of_doubts(info: ImageInfo, augment: AugmentConfig | None) -> None:
    """Log what is doubtful about training on these images; each message once per process."""
    for text in doubts(info, augment):
        _warn_once(text)


def doubts(info: ImageInfo, augment: AugmentConfig | None) -> list[str]:
    """Return what is doubtful: normalisation of another scale, augmentation that destroys."""
    height, width = info.image_size
    side = min(height, width)
    found = []
    if not all(0 <= value <= 1 for value in info.mean):
        found.append(
            f"data.mean is {_shown(info.mean)}, but it is of pixels scaled to 0..1: means of"
            " pixels in 0..255 must be divided by 255."
        )
    if not all(value <= 1 for value in info.std):
        found.append(
            f"data.std is {_shown(info.std)}, but it is of pixels scaled to 0..1, where none"
            " exceeds 0.5: deviations of pixels in 0..255 must be divided by 255."
        )
    if augment is None:
        return found
    if augment.cutout >= side:
        share = _erased(augment.cutout, height) * _erased(augment.cutout, width)
        found.append(
            f"augment.cutout erases squares of {augment.cutout} pixels from images of"
            f" {height}x{width}: {100 * share:.0f} % of an image on average. It is meant for"
            " squares of half the side; 0 leaves it out."
        )
    if augment.crop_padding >= side and not augment.random_resized_crop:
        found.append(
            f"augment.crop_padding shifts images of {height}x{width} by up to"
            f" {augment.crop_padding} pixels, so some lose all their content; the paper shifts by"
            " an eighth of the side."
        )
    return found


def _erased(square: int, side: int) -> float:
    """Return the mean share of a line that a square hides whose centre is uniform on it."""
    shown = 0
    for centre in range(side):
        first = max(0, centre - square // 2)
        last = min(side, centre - square // 2 + square)
        shown += last - first
    return shown / side**2


def _shown(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


@functools.cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)
