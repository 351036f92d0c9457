"""Pictures to pixels, as the evaluation of the network saw them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from darts_ray.errors import PredictionError
from darts_ray.export.consumer.contract import PictureRule

Pixels = npt.NDArray[np.uint8]
# A file, its content, an open picture, or bytes of the axes (height, width[, channels]).
Picture = str | Path | bytes | Image.Image | Pixels

# Pillow's modes with one byte of brightness per pixel; all others hold colours, except deep ones.
_GRAY_MODES = ("1", "L", "LA")
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")
_KIND = {1: "gray", 3: "coloured"}


def picture_pixels(
    picture: Picture, rule: PictureRule, channels: int, size: tuple[int, int], where: str = ""
) -> Pixels:
    """Return a picture's pixels (channels, height, width), prepared by the file's rule.

    Args:
        picture: what to read.
        rule: of the file.
        channels: of the network, 1 or 3.
        size: (height, width) of the network.
        where: names the picture in messages; default: its path.

    Raises:
        PredictionError: it is no picture, too deep, or of a size or mode that the rule refuses.
    """
    place = where or (str(picture) if isinstance(picture, str | Path) else "The picture")
    image = _open(picture, place)
    if image.mode in _DEEP_MODES:
        raise PredictionError(
            f"{place}: has more than 8 bits per pixel (mode {image.mode}); convert it to 8 bits."
        )
    own = 1 if image.mode in _GRAY_MODES else 3
    if own != channels and not rule.converts_color:
        raise PredictionError(
            f"{place}: the picture is {_KIND[own]} (mode {image.mode}), and the network was"
            f" trained on {_KIND[channels]} ones, unconverted: convert it to"
            f" {'L' if channels == 1 else 'RGB'} first."
        )
    try:
        image = _resized(image.convert("L" if channels == 1 else "RGB"), rule, size)
    except (OSError, SyntaxError, ValueError) as error:
        raise PredictionError(f"{place}: the picture cannot be decoded ({error}).") from error
    if image.size != (size[1], size[0]):
        raise PredictionError(
            f"{place}: the picture has {image.height}x{image.width} pixels (height x width), the"
            f" network takes {size[0]}x{size[1]}, and the file has no rule for resizing, as"
            " training had none: resize it first."
        )
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _open(picture: Picture, place: str) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise PredictionError(
                f"{place}: a single array must be uint8 (height, width[, channels]), not"
                f" {picture.dtype} {picture.shape}; a batch has the axes NCHW."
            )
        flat = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
        return Image.fromarray(flat)
    try:
        image = Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)
        image.load()
    except FileNotFoundError as error:
        raise PredictionError(f"{place}: there is no such file.") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PredictionError(f"{place}: is no picture that can be decoded ({error}).") from error
    return image


def _resized(image: Any, rule: PictureRule, size: tuple[int, int]) -> Any:
    height, width = size
    if rule.resize == "none":
        return image
    if rule.resize == "stretch":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    assert rule.shorter_side is not None
    # The same arithmetic as in training, in floating point: shorter_side itself is rounded.
    scale = height * 256 / 224 / min(image.size)
    new_width, new_height = (max(height, round(side * scale)) for side in image.size)
    image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    left, top = (new_width - width) // 2, (new_height - height) // 2
    return image.crop((left, top, left + width, top + height))
