"""What every reader of images gives, and what readers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Part = Literal["train", "test"]
Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Decoded:
    """Decoded images.

    Attributes:
        images: uint8 (num, channels, height, width).
        labels: int64 (num,).
        class_names: by label.
    """

    images: Pixels
    labels: Labels
    class_names: tuple[str, ...]


class ImageSource(Protocol):
    """A reader; it touches the files of the part it is asked for and no others."""

    def files(self, part: Part) -> list[Path]:
        """Return the files of a part, in reading order; none for a built-in source.

        Raises:
            DataError: there are none.
        """

    def decode(self, part: Part) -> Decoded:
        """Read a part.

        Raises:
            DataError: a file, row or column is missing, corrupt or out of range.
        """


def chosen_rows(num: int, maximum: int | None, seed: int) -> NDArray[np.int64]:
    """Return the rows to use, ascending: all, or a seeded choice (files are often sorted)."""
    if maximum is None or maximum >= num:
        return np.arange(num)
    return np.sort(np.random.default_rng(seed).choice(num, maximum, replace=False))


def resize_pixels(images: Pixels, size: int) -> Pixels:
    """Resize (num, channels, height, width) to `size` pixels per side, antialiased."""
    if images.shape[2:] == (size, size):
        return images
    planes = images.reshape(-1, *images.shape[2:])
    resized = [
        np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR))
        for plane in planes
    ]
    return np.stack(resized).reshape(*images.shape[:2], size, size)


def convert_channels(images: Pixels, channels: int | None) -> Pixels:
    """Turn (num, channels, height, width) into grayscale (1) or RGB (3); None: leave it."""
    if channels is None or images.shape[1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=1)
    # ITU-R 601-2 luma, as Pillow's mode L.
    luma = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    gray = np.tensordot(images, luma, axes=([1], [0]))
    rounded: Pixels = np.rint(gray).astype(np.uint8)[:, None]
    return rounded
