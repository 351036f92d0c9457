"""Which metrics are written, and how names and values look to MLflow."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

METRICS = frozenset(
    {
        # what networks score
        "train_loss",
        "train_accuracy",
        "valid_loss",
        "validation_loss",
        "validation_accuracy",
        "validation_top5",
        "validation_perplexity",
        "test_loss",
        "test_accuracy",
        "test_top5",
        "test_perplexity",
        "select_score",
        "true_accuracy_cifar10",
        "true_accuracy_cifar100",
        "true_accuracy_imagenet16-120",
        # how they are trained
        "weight_lr",
        "lr",
        "drop_path",
        "grad_norm",
        "weight_decay",
        "averaging",
        "rolled_back",
        # whether a search collapses
        "num_skip",
        "dominant_eigenvalue",
        "signed_eigenvalue",
        "stopped_at",
        "rolled_back_to",
        # what they cost
        "num_parameters",
        "multiply_adds",
        "seconds",
        "samples_per_second",
        "peak_memory_bytes",
        "checkpoints_skipped",
    }
)
"""Names of the metrics that trials report and that are written; others are dropped."""

_FORBIDDEN = re.compile(r"[^\w\-. :]+")
_LONGEST = 150
"""Characters of a group's name; MLflow allows 250 for a metric with its group."""


def metric_groups(texts: Iterable[str]) -> dict[str, str]:
    """Return a name for each text under which MLflow takes metrics, such as `order:first`.

    MLflow shows metrics that have the same part before `/` together.

    Args:
        texts: such as the settings of a study, `order=first, xi=0.025`.
    """
    names: dict[str, str] = {}
    for text in texts:
        plain = _FORBIDDEN.sub("-", text.replace("=", ":").replace(", ", " ")).strip(" .")
        name = base = plain[:_LONGEST] or "-"
        number = 1
        while name in names.values():
            number += 1
            name = f"{base} {number}"
        names[text] = name
    return names


def finite(value: float) -> float:
    """Return a value as MLflow should have it: NaN where it is infinite.

    MLflow would store an infinity as the largest float, which ruins the chart's axis.
    """
    return float(value) if math.isfinite(value) else math.nan


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield scalars by dotted name; other leaves as text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
            yield f"{prefix}{key}", value if is_scalar else str(value)
