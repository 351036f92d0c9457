"""What is hardly meant is said, once."""

import logging
from dataclasses import replace

import pytest
import torch

from darts_ray.config import AugmentConfig
from darts_ray.data import ImageInfo, ImageSplit, ImageStream
from darts_ray.data import doubts as doubting
from darts_ray.data.augment import cutout_
from darts_ray.data.doubts import doubts

INFO = ImageInfo(3, ("a", "b", "c"), 3, (8, 8), (0.5,) * 3, (0.25,) * 3, 9, "print")
PLAIN = AugmentConfig(crop_padding=0)


def test_usual_settings_are_no_matter() -> None:
    assert doubts(INFO, PLAIN) == []
    paper = AugmentConfig(crop_padding=4, cutout=16)
    assert doubts(replace(INFO, image_size=(32, 32)), paper) == []
    assert doubts(INFO, None) == []


def test_normalisation_of_another_scale() -> None:
    bytewise = replace(INFO, mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7))
    mean, std = doubts(bytewise, None)
    assert "data.mean is 125.3, 123, 113.9" in mean
    assert "divided by 255" in mean
    assert "data.std is 63, 62.1, 66.7" in std


def test_cutout_says_how_much_it_erases() -> None:
    (text,) = doubts(INFO, AugmentConfig(crop_padding=0, cutout=16))
    assert "squares of 16 pixels from images of 8x8: 100 %" in text
    (text,) = doubts(INFO, AugmentConfig(crop_padding=0, cutout=8))
    erased = cutout_(torch.ones(4000, 1, 8, 8), 8, torch.Generator().manual_seed(0)) == 0
    assert f"{100 * erased.double().mean().item():.0f} %" in text


def test_a_crop_that_may_miss_the_image() -> None:
    (text,) = doubts(INFO, AugmentConfig(crop_padding=8))
    assert "by up to 8 pixels" in text
    assert doubts(INFO, AugmentConfig(crop_padding=8, random_resized_crop=True)) == []


def test_a_training_stream_says_it_once(caplog: pytest.LogCaptureFixture) -> None:
    doubting._warn_once.cache_clear()
    split = ImageSplit(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), torch.zeros(9).long())
    with caplog.at_level(logging.WARNING):
        for seed in range(3):
            ImageStream(
                split,
                torch.arange(9),
                3,
                info=INFO,
                augment=AugmentConfig(crop_padding=0, cutout=16),
                seed=seed,
                device=torch.device("cpu"),
            )
    assert caplog.text.count("augment.cutout") == 1
