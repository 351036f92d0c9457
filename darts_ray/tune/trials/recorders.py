"""What the driver notes in the folders of trials while Tune runs them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from ray import tune
from ray.tune import Callback
from ray.tune.experiment import Trial

from darts_ray.tune.checkpoints import replace_file
from darts_ray.tune.failures.trial import StudyTrial
from darts_ray.tune.trials.folder import ATTEMPT, ENDING, TrialFolder

logger = logging.getLogger("darts_ray.tune")


class EndingRecorder(Callback):
    """Notes in a trial's folder that it ended, for trials that a scheduler stops early."""

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Write after which epoch it ended; Ray calls this after the last checkpoint."""
        assert trial.storage is not None
        content = {"stopped_after": trial.last_result.get("epoch")}
        fs, path = trial.storage.storage_filesystem, f"{trial.path}/{ENDING}"
        try:
            fs.create_dir(trial.path)
            replace_file(fs, path, json.dumps(content).encode("utf-8"))
        except (OSError, pa.ArrowException) as error:
            # why: a trial that reached its last epoch is known by its checkpoint anyway
            logger.warning("Trial %s: its ending cannot be noted: %s", trial, error)


class BrokenFolders(Callback):
    """Deletes a trial's broken checkpoint folders once it has written a whole one after them.

    Args:
        folders: what the trials' folders said when the stage began, by trial.
    """

    def __init__(self, folders: Mapping[str, TrialFolder]) -> None:
        self._broken = {name: folder.broken for name, folder in folders.items() if folder.broken}

    def on_checkpoint(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        checkpoint: tune.Checkpoint,
        **info: Any,
    ) -> None:
        """Delete what this checkpoint replaces."""
        for path in self._broken.pop(trial.trial_id, ()):
            try:
                assert checkpoint.filesystem is not None
                checkpoint.filesystem.delete_dir(path)
            except (OSError, pa.ArrowException) as error:
                # why: it only takes up room; the next resume tries again
                logger.warning("Trial %s: %s cannot be deleted: %s", trial, path, error)


class AttemptRecorder(Callback):
    """Notes in a trial's folder that it runs, or why it failed, for those who watch a study."""

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Write that it runs."""
        self._note(trial, {"state": "running"})

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Write why it failed for good."""
        assert isinstance(trial, StudyTrial)
        self._note(trial, {"state": "failed", "error": trial.error_text})

    def _note(self, trial: Trial, content: Mapping[str, str]) -> None:
        assert trial.storage is not None
        fs = trial.storage.storage_filesystem
        try:
            fs.create_dir(trial.path)
            with fs.open_output_stream(f"{trial.path}/{ATTEMPT}", compression=None) as stream:
                stream.write(json.dumps(content).encode("utf-8"))
        except (OSError, pa.ArrowException) as error:
            # why: only who watches misses it
            logger.warning("Trial %s: its state cannot be noted: %s", trial, error)
