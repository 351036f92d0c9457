"""One self-contained HTML page about a study."""

from __future__ import annotations

from pathlib import Path


def write_report(folder: str | Path) -> str:
    """Write report.html from the study's files; return its path or URI."""
    raise NotImplementedError
