"""Hands trial results to `darts_ray.tracking`."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.fs
from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback

from darts_ray.errors import ConfigError
from darts_ray.tracking import StudyTracker, named_uri, sqlite_uri
from darts_ray.tune.failures.causes import explain_failure
from darts_ray.tune.failures.trial import StudyTrial

QUEUE = ".tracking"
"""Where inside a local experiment folder what MLflow has not yet received is kept."""

logger = logging.getLogger("darts_ray.tune")


class MLflowStudyCallback(LoggerCallback):
    """Writes trials to MLflow: one run per trial below one for all of them, also on resume.

    The tracker queues on disk, so no call here waits for the server or fails with it. A trial is
    known by its stage and name, which do not change when it restarts or a study resumes. In a
    plain Tune run it takes the same words as Ray's `MLflowLoggerCallback`:

        from ray import tune
        from darts_ray.tune import MLflowStudyCallback, SearchTrainable

        callback = MLflowStudyCallback(experiment_name="seeds", tags={"team": "vision"})
        small = {"network": {"channels": 4, "layers": 3}, "epochs": 1, "max_steps": 2}
        results = tune.Tuner(
            SearchTrainable,
            param_space={"data": {"source": "digits"}, "seed": tune.grid_search([0, 1]), **small},
            run_config=tune.RunConfig(name="first", storage_path=folder, callbacks=[callback]),
        ).fit()

    Args:
        tracking_uri: such as `https://server:5000`; default: `MLFLOW_TRACKING_URI`, else the
            SQLite file `mlflow.db` in the run's local `storage_path`.
        experiment_name: the MLflow experiment, made where it is missing; default:
            `MLFLOW_EXPERIMENT_NAME`, else the name of the Tune run.
        tags: of the run above the trials' runs.
        tracker: an open study's, which then decides all of the above and is closed by who made
            it.
        stage: `search`, `select` or `retrain`.

    Raises:
        ConfigError: both a tracker and what a tracker decides are given.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        experiment_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        tracker: StudyTracker | None = None,
        stage: str = "search",
    ) -> None:
        if tracker is not None and (tracking_uri or experiment_name or tags):
            raise ConfigError(
                "MLflowStudyCallback: a tracker has its own tracking_uri, experiment_name and"
                " tags; leave them out, or the tracker"
            )
        self._uri = tracking_uri
        self._experiment = experiment_name
        self._tags = dict(tags or {})
        self._given = tracker
        self._own: StudyTracker | None = None
        self._stage = stage
        self._configs: dict[str, Any] = {}
        self._ended: set[str] = set()

    def setup(self, *args: Any, **info: Any) -> None:
        """Open a study's run, if nobody has, and note which stage is running."""
        if self._given is not None:
            self._given.start_study({})
            self._given.start_stage(self._stage)

    def log_trial_start(self, trial: Trial) -> None:
        """Open the trial's run, or take it up again after a restart."""
        if trial.trial_id not in self._configs:
            if self._given is None and self._own is None:
                self._own = self._open(trial)
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
        """Mark the runs of interrupted trials, which a resume opens again; end an own tracker."""
        for trial in trials:
            # why: by now Ray calls the trials that it stopped terminated too
            if trial.trial_id in self._configs and trial.trial_id not in self._ended:
                self._tracker.end_trial(self._id(trial), "KILLED")
        if self._own is not None:
            interrupted = set(self._configs) - self._ended
            failed = trials and all(trial.status == Trial.ERROR for trial in trials)
            self._own.end_study("KILLED" if interrupted else "FAILED" if failed else "FINISHED")
            if not self._own.close():
                logger.warning(
                    "MLflow at %s has not received everything yet; restoring the Tune run delivers"
                    " the rest when it is back",
                    self._own.uri,
                )
            self._own = None

    @property
    def _tracker(self) -> StudyTracker:
        tracker = self._given or self._own
        if tracker is None:
            raise RuntimeError("MLflowStudyCallback: a result came before its trial started")
        return tracker

    def _open(self, trial: Trial) -> StudyTracker:
        """Open the run above the trials' runs of a plain Tune run."""
        storage = trial.storage
        assert storage is not None
        is_local = isinstance(storage.storage_filesystem, pyarrow.fs.LocalFileSystem)
        uri = named_uri(self._uri)
        if uri is None:
            if not is_local:
                raise ConfigError(
                    "MLflowStudyCallback: an SQLite file needs a local storage_path; name a"
                    " tracking server (tracking_uri)"
                )
            uri = sqlite_uri(Path(storage.storage_fs_path))
        if is_local:
            queue = Path(storage.experiment_fs_path) / QUEUE
        else:
            place = f"{storage.storage_filesystem.type_name}:{storage.experiment_fs_path}"
            digest = hashlib.sha256(place.encode()).hexdigest()[:16]
            queue = Path.home() / ".cache" / "darts_ray" / "tracking" / digest
        name = storage.experiment_dir_name
        experiment = self._experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or name
        tracker = StudyTracker(uri, experiment, name, queue)
        tracker.start_study({}, self._tags)
        tracker.start_stage(self._stage)
        return tracker

    def _id(self, trial: Trial) -> str:
        return f"{self._stage}/{trial.trial_id}"
