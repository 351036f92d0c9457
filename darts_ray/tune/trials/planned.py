"""A trial as a study plans it and as it ended; plain values, no Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

FORM = "export"
"""Key of a retraining's values, beside the fields of `RetrainConfig`: the form of its file."""
FORM_KEYS = ("opset", "input", "output")
"""What of the export section decides what the file computes."""


@dataclass(frozen=True)
class TrialSpec:
    """One trial to run.

    Attributes:
        name: stable, unique in its stage, fit for a file name; names the trial's folder.
        config: fields of a `SearchConfig` or `RetrainConfig` as plain values; a retraining's may
            also have `FORM`.
        setting: the values of the study's axes as text; `-` when there is no axis. With the
            optuna searcher the outcome's setting holds what the searcher chose.
        seed: the trial's seed.
    """

    name: str
    config: dict[str, Any]
    setting: str
    seed: int


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended.

    Attributes:
        name: as in its spec.
        setting: as in its spec, or what a searcher chose.
        seed: as in its spec.
        config: the configuration that it ended with.
        status: `done` (early stopping by a scheduler included) or `failed`; `unfinished` where a
            stage was interrupted.
        error: what went wrong, when it failed.
        history: one dict of metrics per epoch, in order; after population based training that of
            the weights it ended with, which other trials may have begun.
        checkpoint: absolute path or URI of the last good checkpoint folder; None without one.
        seconds: time spent in epochs.
    """

    name: str
    setting: str
    seed: int
    config: dict[str, Any]
    status: Literal["done", "failed", "unfinished"]
    error: str | None
    history: list[dict[str, Any]]
    checkpoint: str | None
    seconds: float
