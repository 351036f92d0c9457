"""Whether a checkpoint was written while training on the same part of the same data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darts_ray.config import RetrainConfig
from darts_ray.data import ImageInfo, TextInfo
from darts_ray.errors import CheckpointError


def split_settings(config: RetrainConfig) -> dict[str, Any]:
    """Return the settings that say which of the data train and which are held out."""
    return {
        "train_portion": config.train_portion,
        "split_seed": config.data.split_seed,
        "max_train": config.data.max_train,
    }


def check_same_data(
    state: Mapping[str, Any], config: RetrainConfig, info: ImageInfo | TextInfo
) -> None:
    """Compare a retraining's state with the data that it shall go on with.

    Args:
        state: its `fingerprint` and `split`, which older states lack, are read.
        config: the retraining.
        info: its data.

    Raises:
        CheckpointError: they are others, or are split in another way.
    """
    if state["fingerprint"] != info.fingerprint:
        raise CheckpointError(
            "The checkpoint was written while training on other data; resume with the"
            " same data and split settings."
        )
    ours = split_settings(config)
    theirs = state.get("split", ours)
    if theirs != ours:
        raise CheckpointError(
            f"The checkpoint was written with the split settings {theirs}, and these are"
            f" {ours}: images that were held out would be trained on. Resume with"
            " the same settings."
        )
