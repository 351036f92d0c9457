"""Images of every usual kind become pixels; what is none is refused with the reason."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darts_ray.data.sources.decoding import decode_image, decode_jpeg_file
from darts_ray.errors import DataError
from tests.data.files import pixels

COLOUR = Image.fromarray(pixels(1, 8, 8)[0].transpose(1, 2, 0))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind", "channels", "options"),
    [
        ("CMYK", "jpeg", 3, {}),
        ("YCbCr", "jpeg", 3, {}),
        ("RGBA", "png", 3, {}),
        ("LA", "png", 1, {}),
        ("1", "png", 1, {}),
        ("P", "png", 3, {}),
        ("P", "png", 3, {"transparency": 3}),
        ("P", "png", 3, {"transparency": bytes(range(16))}),
        ("P", "gif", 3, {"transparency": 3}),
        ("RGBA", "webp", 3, {}),
    ],
)
def test_modes(mode: str, kind: str, channels: int, options: dict[str, Any]) -> None:
    encoded = encode(COLOUR.convert(mode), kind, **options)
    assert decode_image(encoded, "image", None).shape == (channels, 8, 8)
    assert decode_image(encoded, "image", 3).shape == (3, 8, 8)


def test_transparent_palettes_keep_their_colours() -> None:
    image = COLOUR.convert("P")
    plain = decode_image(encode(image, "png"), "image", None)
    transparent = encode(image, "png", transparency=bytes(range(16)))
    np.testing.assert_array_equal(decode_image(transparent, "image", None), plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x1f\x8b\x08\0", "gunzip"),
        (b"text", "no known image format"),
        (encode(COLOUR.resize((64, 64)), "jpeg")[:700], "truncated"),
        (encode(COLOUR.resize((64, 64)), "png")[:3000], "truncated"),
        (encode(Image.new("L", (20_000, 10_000)), "png"), "exceeds limit"),
    ],
)
def test_what_is_no_image(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^place: the image cannot be decoded .*{message}"):
        decode_image(content, "place", None)


def test_damaged_bytes_never_end_in_another_error() -> None:
    draw = np.random.default_rng(0)
    for kind in ("png", "jpeg", "webp", "tiff", "bmp", "gif"):
        whole = encode(COLOUR, kind)
        for _ in range(60):
            broken = bytearray(whole)
            for position in draw.integers(len(whole), size=3):
                broken[position] = draw.integers(256)
            with suppress(DataError):
                decode_image(bytes(broken), "place", 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_the_fast_decoder_gives_the_same_pixels(
    tmp_path: Path, mode: str, options: dict[str, Any]
) -> None:
    picture = COLOUR.resize((61, 47), Image.Resampling.BICUBIC).convert(mode)
    file = tmp_path / "picture.jpg"
    file.write_bytes(encode(picture, "jpeg", **options))
    fast = decode_jpeg_file(file)
    assert fast is not None
    np.testing.assert_array_equal(fast.numpy(), decode_image(file, "place", 3))


def test_the_fast_decoder_leaves_other_files_alone(tmp_path: Path) -> None:
    whole = encode(COLOUR.resize((64, 64)), "jpeg")
    for content in (b"", whole[:700], whole[:-2], encode(COLOUR, "png"), b"<html>"):
        file = tmp_path / "picture.jpg"
        file.write_bytes(content)
        assert decode_jpeg_file(file) is None
    assert decode_jpeg_file(tmp_path / "missing.jpg") is None
