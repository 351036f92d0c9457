"""Hands Tune exactly the trials of a stage, under their own names, wherever they stand."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.fs
from ray import tune
from ray.train._internal.session import _TrainingResult
from ray.tune.experiment import Experiment, Trial
from ray.tune.search.search_algorithm import SearchAlgorithm

from darts_ray.tune.checkpoints import DAMAGED, checkpoint_index
from darts_ray.tune.failures.trial import StudyTrial
from darts_ray.tune.search_space import keep_schedule_valid, set_dotted
from darts_ray.tune.trials import TrialSpec
from darts_ray.tune.trials.choosing import SharedChoices
from darts_ray.tune.trials.folder import TrialFolder

logger = logging.getLogger("darts_ray.tune")


class TrialList(SearchAlgorithm):
    """A search algorithm whose trials are given.

    A fresh trial is queued as planned; one that was interrupted goes on from its newest whole
    checkpoint; one that ended is shown to Tune as terminated, so schedulers, callbacks and
    Tune's own results see the stage as a whole.

    Why not `Tuner.restore`: the experiment state that it needs is written every ten seconds or
    later and may be stale or cut short after a kill, it names checkpoints that are gone by then,
    and it holds nothing (not even a scheduler's state) that the trial folders lack.

    Args:
        specs: the trials.
        folders: what the trials' folders say, by name; empty for a new stage.
        checkpoints: how often trials write one, and how many they keep.
        max_concurrent: trials at a time; None: as many as fit.
        choices: values for the axes of trials that have not begun; None: the specs' own.
    """

    def __init__(
        self,
        specs: Sequence[TrialSpec],
        folders: Mapping[str, TrialFolder],
        checkpoints: tune.CheckpointConfig,
        max_concurrent: int | None,
        choices: SharedChoices | None = None,
    ) -> None:
        self._specs = list(specs)
        self._folders = dict(folders)
        self._checkpoints = checkpoints
        self._max_concurrent = max_concurrent
        self._choices = choices
        self._experiment: Experiment | None = None
        self._live: set[str] = set()
        self.trials: dict[str, StudyTrial] = {}

    @property
    def total_samples(self) -> int:
        """How many trials there are."""
        return len(self._specs)

    @property
    def epochs(self) -> int:
        """Epochs of the longest trial."""
        return max(int(spec.config.get("epochs", 1)) for spec in self._specs)

    @property
    def histories(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """Metrics per epoch that trials have from before a resume, by name."""
        return {name: folder.history for name, folder in self._folders.items()}

    def add_configurations(self, experiments: Any) -> None:
        """Note the experiment that the trials belong to."""
        (self._experiment,) = experiments

    def is_finished(self) -> bool:
        """Whether every trial has been handed out."""
        return bool(self._finished) or len(self.trials) == len(self._specs)

    def next_trial(self) -> Trial | None:
        """Return the next trial; None when enough are running or none is left."""
        if self.is_finished():
            return None
        spec = self._specs[len(self.trials)]
        folder = self._folders.get(spec.name, TrialFolder())
        if not folder.ended:
            if self._max_concurrent is not None and len(self._live) >= self._max_concurrent:
                return None
            self._live.add(spec.name)
        trial = self._make(spec, folder)
        self.trials[spec.name] = trial
        return trial

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Make room for the next trial; tell the searcher how this one went."""
        self._live.discard(trial_id)
        if self._choices is not None:
            self._choices.tell(trial_id, None if error else result)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out live objects; Tune pickles a copy that is never used."""
        return {"_specs": self._specs}

    def _make(self, spec: TrialSpec, folder: TrialFolder) -> StudyTrial:
        assert self._experiment is not None
        trial = StudyTrial(
            self._experiment.run_identifier,
            config=self._config(spec, folder),
            trial_id=spec.name,
            storage=self._experiment.storage,
            checkpoint_config=self._checkpoints,
            max_failures=self._experiment.spec["max_failures"],
            trial_name_creator=_name,
        )
        assert trial.storage is not None
        # why: Tune would append random letters to a folder that exists
        trial.storage.trial_dir_name = spec.name
        trial.relative_logdir = spec.name  # type: ignore[assignment]  # Ray's lacks a type
        if folder.newest >= 0:
            _take_up(trial, folder)
        return trial

    def _config(self, spec: TrialSpec, folder: TrialFolder) -> dict[str, Any]:
        if folder.config is not None:
            # why: a searcher or scheduler may have chosen its values; the data may have moved
            return {**folder.config, "data": spec.config["data"]}
        if self._choices is None:
            return dict(spec.config)
        chosen = set_dotted(spec.config, self._choices.values_for(spec))
        return keep_schedule_valid(chosen)


def _take_up(trial: Trial, folder: TrialFolder) -> None:
    """Let a trial go on from what its folder holds, or show it as ended."""
    assert trial.storage is not None
    fs: pyarrow.fs.FileSystem = trial.storage.storage_filesystem
    for path in folder.checkpoints:
        metrics: dict[str, Any] = {}
        if path == folder.checkpoints[-1]:
            last = folder.history[-1]
            metrics = {**last, "training_iteration": last["epoch"], DAMAGED: folder.damaged}
        trial.storage.current_checkpoint_index = checkpoint_index(path) - 1
        trial.on_checkpoint(_TrainingResult(tune.Checkpoint(path, filesystem=fs), metrics))
    # why: the next checkpoint must not be written into a damaged folder
    trial.storage.current_checkpoint_index = folder.newest
    if folder.damaged:
        logger.warning(
            "Trial %s: its newest %d checkpoint(s) are damaged; it goes on from epoch %d",
            trial.trial_id,
            folder.damaged,
            folder.history[-1]["epoch"] if folder.history else 0,
        )
    if folder.ended:
        trial.run_metadata.last_result = dict(metrics)
        trial.set_status(Trial.TERMINATED)  # type: ignore[no-untyped-call]


def _name(trial: Trial) -> str:
    return str(trial.trial_id)
