"""Whether a snapshot of a search belongs to the search that is to go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darts_ray.config import SearchConfig
from darts_ray.data import ImageData, TextData
from darts_ray.errors import CheckpointError

FORMAT = 2
"""Of a search's `state_dict`; states without a number (1) are read as well."""


def source_of(config: SearchConfig, data: ImageData | TextData) -> dict[str, Any]:
    """Return what tells one search's data from another's."""
    source: dict[str, Any] = {"fingerprint": data.info.fingerprint}
    if isinstance(data, ImageData):
        source |= {
            "split_seed": config.data.split_seed,
            "train_portion": config.train_portion,
        }
    return source


def check_belongs(state: Mapping[str, Any], method: str, source: Mapping[str, Any]) -> None:
    """Check that a state is one of this search.

    Args:
        state: what `SearchRun.state_dict` returned, perhaps long ago.
        method: name of this search's method.
        source: of this search's data.

    Raises:
        CheckpointError: the state is of another search, other data, or a later version.
    """
    missing = sorted({"epochs_done", "supernet", "step", "feed", "rng"} - set(state))
    if missing:
        raise CheckpointError(f"The checkpoint is not of a search: {missing} are missing.")
    if state.get("format", 1) > FORMAT:
        raise CheckpointError(
            f"The checkpoint has format {state['format']}; this version reads up to {FORMAT}:"
            " update darts_ray."
        )
    if state.get("method", method) != method:
        raise CheckpointError(
            f"The checkpoint is of the method {state['method']!r}, this search of {method!r}."
        )
    if state.get("source", source) != source:
        raise CheckpointError(
            "The checkpoint was written while searching on other data; resume with the same"
            f" data and split settings ({state['source']}, here {source})."
        )
