"""Which batches a search sees, and how its supernet is evaluated: images and text."""

from __future__ import annotations

import numpy as np
import torch

from darts_ray.config import SearchConfig
from darts_ray.data import ImageData, TextData
from darts_ray.errors import ConfigError
from darts_ray.search.batches.images import ImageBatches, evaluation_batch_size
from darts_ray.search.batches.stream import SearchBatches, StepBatches
from darts_ray.search.batches.text import TextBatches

__all__ = [
    "ImageBatches",
    "SearchBatches",
    "StepBatches",
    "TextBatches",
    "evaluation_batch_size",
    "open_batches",
]


def open_batches(
    config: SearchConfig, data: ImageData | TextData, device: torch.device
) -> SearchBatches:
    """Return the source that fits the data, after checking the data against the configuration.

    Raises:
        ConfigError: the configuration is for another kind of data.
        DataError: a split is too small for its batches, or a target is out of range.
    """
    if isinstance(data, TextData) != config.data.is_text:
        raise ConfigError(
            f"data.source: {config.data.source!r} does not describe the data that was opened"
            f" ({type(data).__name__})."
        )
    # two independent seeds; the supernet's initialisation uses config.seed itself
    seeds = [int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(2)]
    if isinstance(data, TextData):
        return TextBatches(config, data, device, seeds)
    return ImageBatches(config, data, device, seeds)
