"""Tiny datasets in memory, whose test sets cannot be opened unless a test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import torch

from darts_ray.config import RetrainConfig
from darts_ray.data import ImageData, ImageInfo, ImageSplit, TextData, TextInfo

VOCABULARY = 13


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def closed() -> NoReturn:
    """Stand for a test set that nothing may open."""
    raise AssertionError("the test set was opened")


def image_split(num: int, size: int = 8, classes: int = 3, seed: int = 0) -> ImageSplit:
    """Return noise whose brightness depends on the class, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (num,), generator=generator)
    noise = torch.randint(0, 120, (num, 3, size, size), generator=generator)
    return ImageSplit((noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels)


def make_images(
    num: int = 24,
    size: int = 8,
    classes: int = 3,
    open_test: Callable[[], ImageSplit] = closed,
) -> ImageData:
    """Return an image dataset."""
    info = ImageInfo(
        num_classes=classes,
        class_names=tuple(f"class {number}" for number in range(classes)),
        channels=3,
        image_size=(size, size),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        num_train=num,
        fingerprint="images",
    )
    return ImageData(info, image_split(num, size, classes), open_test)


def make_text(
    num: int = 160, open_test: Callable[[], torch.Tensor] = closed, seed: int = 0
) -> TextData:
    """Return a text in which two words of three are the same."""
    info = TextInfo(
        vocab_size=VOCABULARY,
        vocabulary=tuple(f"word{number}" for number in range(VOCABULARY)),
        num_train=num,
        num_valid=60,
        fingerprint="text",
    )
    return TextData(info, make_tokens(num, seed), make_tokens(60, seed + 1), open_test)


def make_tokens(num: int, seed: int) -> torch.Tensor:
    """Return token numbers as `make_text` describes them."""
    generator = torch.Generator().manual_seed(seed)
    rare = torch.randint(0, 3, (num,), generator=generator) == 0
    return torch.where(rare, torch.randint(0, VOCABULARY, (num,), generator=generator), 4)


def image_config(**changes: Any) -> RetrainConfig:
    """Return a retraining of a network that takes milliseconds per step."""
    values: dict[str, Any] = {
        "genotype": "DARTS_V2",
        "network": {"channels": 2, "layers": 3, "auxiliary": False},
        "augment": {"crop_padding": 1, "cutout": 2},
        "epochs": 4,
        "batch_size": 6,
        "device": "cpu",
    }
    return RetrainConfig.model_validate(_merge(values, changes))


def text_config(**changes: Any) -> RetrainConfig:
    """Return a retraining of a language model that takes milliseconds per step."""
    values: dict[str, Any] = {
        "data": {"source": "english"},
        "genotype": "RECURRENT_DARTS_V2",
        "network": {"embedding_dim": 8, "hidden_dim": 8, "bptt": 10},
        "optim": {
            "lr": 5.0,
            "schedule": "constant",
            "momentum": 0.0,
            "weight_decay": 1e-6,
            "grad_clip": 0.25,
            "asgd_patience": None,
            "stop_patience": None,
        },
        "epochs": 4,
        "batch_size": 4,
        "eval_batch_size": None,
        "test_batch_size": None,
        "device": "cpu",
    }
    return RetrainConfig.model_validate(_merge(values, changes))


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for name, value in changes.items():
        old = merged.get(name)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[name] = {**old, **value} if both and old is not None else value
    return merged
