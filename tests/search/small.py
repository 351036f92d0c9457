"""Small searches on made-up data, a second or two each."""

from __future__ import annotations

from typing import Any

import torch

from darts_ray.config import SearchConfig
from darts_ray.data import ImageData, ImageInfo, ImageSplit, TextData, TextInfo

SPACE = {"name": "small", "primitives": ["none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"]}


def image_data(num: int = 41, classes: int = 3, size: int = 8) -> ImageData:
    """Grey images whose brightness tells the class."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(num) % classes
    noise = torch.randint(0, 60, (num, 1, size, size), generator=generator)
    images = (noise + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    info = ImageInfo(
        num_classes=classes,
        class_names=tuple(map(str, range(classes))),
        channels=1,
        image_size=(size, size),
        mean=(0.35,),
        std=(0.2,),
        num_train=num,
        fingerprint="image",
    )
    return ImageData(info, ImageSplit(images, labels), _no_test_set)


def text_data(train: int = 260, valid: int = 70, vocabulary: int = 6) -> TextData:
    """A periodic text with some noise."""
    generator = torch.Generator().manual_seed(6)
    tokens = torch.arange(train + valid) % (vocabulary - 1)
    noise = torch.rand(train + valid, generator=generator) < 0.1
    tokens[noise] = vocabulary - 1
    words = tuple("abcdefgh"[:vocabulary])
    info = TextInfo(vocabulary, words, train, valid, "text")
    return TextData(info, tokens[:train], tokens[train:], _no_test_set)


def image_config(**values: Any) -> SearchConfig:
    """Three cells with one node, 20 images per part, batches of 6."""
    return SearchConfig.model_validate(
        {
            "space": {**SPACE, "nodes": 1},
            "network": {"channels": 2, "layers": 3, "stem_multiplier": 1},
            "epochs": 4,
            "batch_size": 6,
            "augment": {"crop_padding": 1},
            "optim": {"order": "unrolled", "weight_lr": 0.1, "alpha_lr": 0.05},
            **values,
        }
    )


def text_config(**values: Any) -> SearchConfig:
    """Two nodes, eight units, windows of 10 or 5 tokens."""
    return SearchConfig.model_validate(
        {
            "data": {"source": "english"},
            "network": {
                "kind": "recurrent",
                "embedding_dim": 8,
                "hidden_dim": 8,
                "bptt": 10,
                "short_sequence_probability": 0.4,
            },
            "space": {
                "name": "small-recurrent",
                "kind": "recurrent",
                "primitives": ["none", "tanh", "relu", "identity"],
                "nodes": 2,
                "edges_per_node": 1,
            },
            "epochs": 4,
            "batch_size": 5,
            "optim": {
                "order": "unrolled",
                "weight_lr": 2.0,
                "weight_lr_min": 2.0,
                "momentum": 0.0,
                "grad_clip": 0.25,
                "alpha_lr": 0.05,
            },
            **values,
        }
    )


def _no_test_set() -> Any:
    raise AssertionError("a search must never open the test set")
