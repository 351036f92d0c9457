"""Reads what a stage's trials have left on the disk, without running anything and without Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.fs

from darts_ray.location import child_location, with_patience
from darts_ray.tune.checkpoints import DamagedCheckpointError, read_file
from darts_ray.tune.trials import TrialOutcome, TrialSpec
from darts_ray.tune.trials.folder import ATTEMPT, TrialFolder

READERS = 16
"""Folders that are read at the same time; on an object store each takes several requests."""
ATTEMPTS = 3
"""A checkpoint may be replaced by a newer one while it is read."""


@dataclass(frozen=True)
class TrialProgress:
    """How far a trial is that may be running now.

    Attributes:
        history: metrics per epoch, up to its newest whole checkpoint.
        ended: whether it needs nothing more.
        attempt: what the driver has noted of its latest attempt: `running` or `failed`; None where
            nothing was noted.
        error: why the latest attempt failed; None when it did not.
    """

    history: Sequence[Mapping[str, Any]] = ()
    ended: bool = False
    attempt: str | None = None
    error: str | None = None


def read_outcomes(stage: str, trials: Sequence[TrialSpec], storage: str) -> list[TrialOutcome]:
    """Return how far each trial of an interrupted stage has come.

    Args:
        stage: as in `run_trials`.
        trials: as in `run_trials`.
        storage: as in `run_trials`.

    Returns:
        One outcome per trial, up to its newest whole checkpoint; `unfinished` unless it ended or
        its test failed.
    """
    fs, root = pyarrow.fs.FileSystem.from_uri(storage)
    outcomes = []
    for spec in trials:
        folder = TrialFolder.read(fs, f"{root.rstrip('/')}/{stage}/{spec.name}")
        uri = child_location(child_location(storage, stage), spec.name)
        outcome = folder.outcome(spec, spec.setting, spec.config, None, uri)
        unfinished = not folder.ended and outcome.status == "done"
        outcomes.append(replace(outcome, status="unfinished") if unfinished else outcome)
    return outcomes


def read_progress(stage: str, names: Sequence[str], storage: str) -> dict[str, TrialProgress]:
    """Return how far trials are, while a driver may be at work on them.

    Args:
        stage: as in `run_trials`.
        names: of trials whose folders exist.
        storage: as in `run_trials`.

    Raises:
        StorageError: the storage fails.
    """
    fs, root = pyarrow.fs.FileSystem.from_uri(storage)
    paths = [f"{root.rstrip('/')}/{stage}/{name}" for name in names]
    with ThreadPoolExecutor(READERS) as readers:
        return dict(zip(names, readers.map(lambda path: _progress(fs, path), paths), strict=True))


def _progress(fs: pyarrow.fs.FileSystem, path: str) -> TrialProgress:
    note = _read_attempt(fs, path)
    folder = TrialFolder()
    for attempt in range(ATTEMPTS):
        try:
            folder = TrialFolder.read(fs, path)
            break
        except DamagedCheckpointError:
            if attempt == ATTEMPTS - 1:
                raise
    return TrialProgress(folder.history, folder.ended, note.get("state"), note.get("error"))


def _read_attempt(fs: pyarrow.fs.FileSystem, path: str) -> dict[str, str]:
    place = f"{path}/{ATTEMPT}"
    try:
        note = json.loads(with_patience(lambda: read_file(fs, place), place))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return {}  # ValueError: it is being written
    return note if isinstance(note, dict) else {}
