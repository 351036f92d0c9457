"""How often a trial may fail: per stretch of progress, not per life."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial


class RetriesPerCheckpoint(Callback):
    """Gives a trial its retries back whenever it has written a checkpoint of a later epoch.

    Tune counts failures over a trial's whole life, so a long training on machines that are
    reclaimed now and then would end however far it comes each time. A failure that returns at the
    same epoch writes no later checkpoint, and still ends the trial.
    """

    def __init__(self) -> None:
        self._furthest: dict[str, int] = {}

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: tune.Checkpoint,
        **info: Any,
    ) -> None:
        """Forget earlier failures if this checkpoint is progress; Ray calls it after each."""
        epoch = int(trial.last_result.get("epoch", 0))
        if epoch > self._furthest.get(trial.trial_id, 0):
            self._furthest[trial.trial_id] = epoch
            trial.run_metadata.num_failures = 0
