"""Results go to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console

stdout = Console()
stderr = Console(stderr=True)


def message(text: str) -> None:
    """Print one plain line to standard output, however long it is."""
    stdout.print(text, highlight=False, soft_wrap=True, markup=False)


def progress(text: str) -> None:
    """Print one plain line to standard error, which a script that reads results passes by."""
    stderr.print(text, highlight=False, soft_wrap=True, markup=False)


def print_json(values: Any) -> None:
    """Print values for a script to read."""
    stdout.print_json(json.dumps(values))


def duration(hours: float | None) -> str:
    """Write hours as seconds, minutes or hours; `?` for what is not known."""
    if hours is None:
        return "?"
    if hours < 1 / 30:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"


def age(moment: float | None) -> str:
    """Write how long ago something was, from seconds since 1970."""
    if moment is None:
        return "never"
    seconds = max(0.0, time.time() - moment)
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min ago"
    return f"{seconds / 3600:.0f} h ago" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d ago"


def score(metric: str | None, value: float | None, std: float | None = None) -> str:
    """Write a score with its unit, accuracies in percent; a dash for none."""
    if metric is None or value is None:
        return "-"
    factor, unit = (100, " %") if "accuracy" in metric else (1, "")
    spread = "" if std is None else f" ± {factor * std:.2f}"
    return f"{factor * value:.2f}{spread}{unit}"
