"""A search and a retraining as Ray Tune class Trainables."""

from __future__ import annotations

from ray import tune


class _RunTrainable(tune.Trainable):  # type: ignore[misc]
    """What both share: epochs as steps, exact checkpoints, a full reset."""


class SearchTrainable(_RunTrainable):
    """One search; `param_space` holds the fields of `SearchConfig` as a nested dict."""


class RetrainTrainable(_RunTrainable):
    """One retraining; `param_space` holds the fields of `RetrainConfig` as a nested dict."""
