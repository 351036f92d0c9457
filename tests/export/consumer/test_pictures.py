"""The consumer sees a picture exactly as the training's evaluation saw it."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from darts_ray.data.sources.decoding import centre_crop, decode_image, stretch
from darts_ray.errors import ExportError
from darts_ray.export import PictureRule
from darts_ray.export.consumer.pictures import picture_pixels

RULES = {
    "stretch": (PictureRule((32, 32), "stretch", converts_color=True), stretch(32)),
    "centre_crop": (
        PictureRule((32, 32), "centre_crop", 37, converts_color=True),
        centre_crop(32),
    ),
}


def drawn(width: int, height: int, mode: str) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK"])
@pytest.mark.parametrize("size", [(32, 32), (50, 40), (41, 97), (20, 31)])
@pytest.mark.parametrize("name", RULES)
def test_same_pixels_as_evaluation(
    name: str, size: tuple[int, int], mode: str, channels: int
) -> None:
    rule, geometry = RULES[name]
    sink = BytesIO()
    drawn(*size, mode).save(sink, "TIFF")
    expected = decode_image(sink.getvalue(), "here", channels, geometry)
    actual = picture_pixels(sink.getvalue(), rule, channels, (32, 32))
    np.testing.assert_array_equal(actual, expected)


def test_without_a_rule_another_size_or_mode_is_refused() -> None:
    rule = PictureRule((32, 32))
    with pytest.raises(ExportError, match=r"here: the picture has 31x30 pixels.*takes 32x32"):
        picture_pixels(drawn(30, 31, "RGB"), rule, 3, (32, 32), "here")
    with pytest.raises(ExportError, match=r"is gray \(mode L\).*coloured.*convert it to RGB"):
        picture_pixels(drawn(32, 32, "L"), rule, 3, (32, 32))
    assert picture_pixels(drawn(32, 32, "RGBA"), rule, 3, (32, 32)).shape == (3, 32, 32)
