"""Results go to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

stdout = Console()
stderr = Console(stderr=True)


def message(text: str) -> None:
    """Print one plain line to standard output, however long it is."""
    stdout.print(text, highlight=False, soft_wrap=True)


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
