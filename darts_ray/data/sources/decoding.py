"""Encoded images (JPEG, PNG, ...) to pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from darts_ray.data.sources.base import Pixels
from darts_ray.encoding import recognise
from darts_ray.errors import DataError

# Pillow's modes with one byte of brightness per pixel; all others hold colours, except deep ones.
_GRAY_MODES = ("1", "L", "LA")
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L")

_JPEG = b"\xff\xd8\xff"

Geometry = Callable[[Image.Image], Image.Image]


def decode_image(
    encoded: bytes | Path, where: str, channels: int | None, geometry: Geometry | None = None
) -> Pixels:
    """Decode one image to uint8 (channels, height, width).

    Args:
        encoded: a file's content, or its path.
        where: names the image in messages.
        channels: 1 or 3 converts; None keeps gray images gray and makes all others RGB.
        geometry: resizes or crops.

    Raises:
        DataError: the image cannot be decoded, or has more than 8 bits per channel.
    """
    try:
        with Image.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            if image.mode in _DEEP_MODES:
                raise DataError(
                    f"{where}: has more than 8 bits per pixel (mode {image.mode}), which would "
                    "be cut off: convert the data to 8 bits."
                )
            if channels is None:
                channels = 1 if image.mode in _GRAY_MODES else 3
            if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
                image.load()
                image.info.pop("transparency")  # colours stay, as of all transparent pixels
            converted = image.convert("L" if channels == 1 else "RGB")
            pixels = np.asarray(geometry(converted) if geometry else converted)
    except DataError:
        raise
    except Exception as error:  # a damaged file can make a decoder fail in any way
        raise DataError(
            f"{where}: the image cannot be decoded ({_reason(encoded, error)}): repair or remove"
            " it."
        ) from error
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def decode_jpeg_file(path: Path) -> Tensor | None:
    """Decode a colour JPEG file to uint8 (3, height, width), a third faster than `decode_image`.

    The pixels are the same, bit for bit: both use libjpeg-turbo.

    Returns:
        None if it is no JPEG or is damaged, or if torchvision decodes none; `decode_image` then
        reads it or says what is wrong.
    """
    try:
        content = path.read_bytes()
        if not content.startswith(_JPEG):
            return None
        encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        with warnings.catch_warnings():
            # torchvision 0.29 says that the function will go; without it Pillow decodes
            warnings.simplefilter("ignore", DeprecationWarning)
            from torchvision.io import ImageReadMode, decode_jpeg  # slow to import

            pixels: Tensor = decode_jpeg(encoded, ImageReadMode.RGB)
    except (OSError, RuntimeError, ImportError):
        return None
    return pixels


def _reason(encoded: bytes | Path, error: Exception) -> str:
    """Return what the file is instead of an image, where that is known, else the error."""
    if isinstance(encoded, bytes):
        head = encoded[:512]
    else:
        try:
            with encoded.open("rb") as file:
                head = file.read(512)
        except OSError:
            return str(error)
    if kind := recognise(head):
        return f"it is {kind}"
    is_foreign = isinstance(error, UnidentifiedImageError)
    return "it is in no known image format" if is_foreign else str(error)


def stretch(size: int | None) -> Geometry | None:
    """Return a resize to `size` pixels per side, whatever the shape was; None leaves images."""
    if size is None:
        return None
    return lambda image: image.resize((size, size), Image.Resampling.BILINEAR)


def centre_crop(size: int | None) -> Geometry | None:
    """Return ImageNet's evaluation view; None leaves images.

    The shorter side is resized to 256/224 of `size`, then the centre is cut out.
    """
    if size is None:
        return None

    def view(image: Image.Image) -> Image.Image:
        scale = size * 256 / 224 / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        return image.crop((left, top, left + size, top + size))

    return view


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...], where: str) -> None:
    """Insist that an image has the shape (channels, height, width) of those before it.

    Raises:
        DataError: its channels or its size differ; the message names the setting that helps.
    """
    if shape == expected:
        return
    if shape[0] != expected[0]:
        mode = {1: "grayscale", 3: "colour"}
        raise DataError(
            f"{where}: the image is {mode[shape[0]]}, those before it are "
            f"{mode[expected[0]]}: set data.channels to 1 or 3 to convert them all."
        )
    raise DataError(
        f"{where}: the image has {shape[1]}x{shape[2]} pixels (height x width), "
        f"those before it {expected[1]}x{expected[2]}: set data.image_size to resize them all."
    )
