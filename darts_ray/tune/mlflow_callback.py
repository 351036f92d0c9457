"""Hands trial results to `darts_ray.tracking`."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback

from darts_ray.tracking import StudyTracker
from darts_ray.tune.failures.causes import explain_failure
from darts_ray.tune.failures.trial import StudyTrial


class MLflowStudyCallback(LoggerCallback):
    """Writes the trials of one stage through a `StudyTracker`: one run per trial, also on resume.

    The tracker queues on disk, so no call here waits for the server or fails with it. A trial is
    known by its stage and name, which do not change when it restarts or a study resumes.

    Args:
        tracker: of the study.
        stage: `search`, `select` or `retrain`.
    """

    def __init__(self, tracker: StudyTracker, stage: str = "search") -> None:
        self._tracker = tracker
        self._stage = stage
        self._configs: dict[str, Any] = {}
        self._ended: set[str] = set()

    def setup(self, *args: Any, **info: Any) -> None:
        """Open the study's run, if nobody has, and note which stage is running."""
        self._tracker.start_study({})
        self._tracker.start_stage(self._stage)

    def log_trial_start(self, trial: Trial) -> None:
        """Open the trial's run, or take it up again after a restart."""
        if trial.trial_id not in self._configs:
            self._configs[trial.trial_id] = trial.config
            self._tracker.start_trial(self._stage, self._id(trial), trial.trial_id, trial.config)

    def log_trial_result(self, iteration: int, trial: Trial, result: dict[str, Any]) -> None:
        """Write an epoch's metrics, and the hyperparameters where a scheduler changed them."""
        epoch = int(result.get("epoch", result["training_iteration"]))
        if trial.config != self._configs.get(trial.trial_id):
            self._configs[trial.trial_id] = trial.config
            self._tracker.log_params(self._id(trial), epoch, trial.config)
        self._tracker.log_epoch(self._id(trial), epoch, result)
        if result.get("done") and "genotype" in result:
            self._tracker.log_artifact(self._id(trial), "genotype.json", result["genotype"])

    def log_trial_end(self, trial: Trial, failed: bool = False) -> None:
        """Close the trial's run."""
        self._ended.add(trial.trial_id)
        if failed:
            failure = trial.failure if isinstance(trial, StudyTrial) else trial.get_pickled_error()
            self._tracker.end_trial(self._id(trial), "FAILED", explain_failure(failure))
        else:
            self._tracker.end_trial(self._id(trial))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Mark the runs of interrupted trials; a resume opens them again."""
        for trial in trials:
            # why: by now Ray calls the trials that it stopped terminated too
            if trial.trial_id in self._configs and trial.trial_id not in self._ended:
                self._tracker.end_trial(self._id(trial), "KILLED")

    def _id(self, trial: Trial) -> str:
        return f"{self._stage}/{trial.trial_id}"
