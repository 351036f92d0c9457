"""Hands trial results to `darts_ray.tracking`."""

from __future__ import annotations

from ray.tune.logger import LoggerCallback

from darts_ray.tracking import StudyTracker


class MLflowStudyCallback(LoggerCallback):
    """Writes trials of one stage through a `StudyTracker`, one run per trial, also on resume."""

    def __init__(self, tracker: StudyTracker, stage: str = "search") -> None: ...
