"""Reads what a stage's trials have left on the disk, without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow.fs

from darts_ray.location import child_location
from darts_ray.tune.trials import TrialOutcome, TrialSpec
from darts_ray.tune.trials.folder import TrialFolder


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
