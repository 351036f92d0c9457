"""Where the runs go: the embedded SQLite file, and whether a named server answers."""

from __future__ import annotations

from pathlib import Path


def sqlite_uri(folder: Path) -> str:
    """Return the tracking URI of the embedded store `mlflow.db` in a local folder."""
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def check_server(uri: str, *, timeout_s: float = 10.0) -> None:
    """Ask the tracking server for one experiment.

    Raises:
        TrackingError: it does not answer; the message names the URI and the remedy.
    """
    raise NotImplementedError
