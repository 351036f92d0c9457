from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from darts_ray.export import PictureRule, example_picture
from darts_ray.export.consumer.pictures import picture_pixels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 13, 32, 224])
@pytest.mark.parametrize("resize", ["none", "stretch", "centre_crop"])
def test_the_rule_turns_the_picture_into_the_networks_pixels(
    resize: str, side: int, channels: int
) -> None:
    shorter = round(side * 256 / 224) if resize == "centre_crop" else None
    rule = PictureRule((side, side), resize, shorter)  # type: ignore[arg-type]  # a str of three
    pixels = np.random.default_rng(side).integers(0, 256, (channels, side, side), dtype=np.uint8)
    picture = example_picture(pixels, rule)
    assert min(Image.open(io.BytesIO(picture)).size) == (shorter or side)
    np.testing.assert_array_equal(picture_pixels(picture, rule, channels, (side, side)), pixels)
