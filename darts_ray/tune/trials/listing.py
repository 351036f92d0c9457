"""Hands Tune exactly the trials of a stage, under their own names, wherever they stand."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow.fs
from ray import tune
from ray.train._internal.session import _TrainingResult
from ray.tune.experiment import Experiment, Trial
from ray.tune.search.search_algorithm import SearchAlgorithm

from darts_ray.tune.checkpoints import DAMAGED, checkpoint_index
from darts_ray.tune.failures.trial import StudyTrial
from darts_ray.tune.scheduling.search_space import keep_schedule_valid, set_dotted
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
        waiting: trials that a scheduler had paused when the stage was interrupted.
        first: trials to hand out before the others, because a scheduler knows them already.
    """

    def __init__(
        self,
        specs: Sequence[TrialSpec],
        folders: Mapping[str, TrialFolder],
        checkpoints: tune.CheckpointConfig,
        max_concurrent: int | None,
        choices: SharedChoices | None = None,
        *,
        waiting: Collection[str] = (),
        first: Collection[str] = (),
    ) -> None:
        self._specs = sorted(specs, key=lambda spec: spec.name not in first)
        self._folders = dict(folders)
        self._checkpoints = checkpoints
        self._max_concurrent = max_concurrent
        self._choices = choices
        self._waiting = frozenset(waiting)
        self._experiment: Experiment | None = None
        self._made: dict[str, StudyTrial] = {}
        self.trials: dict[str, StudyTrial] = {}

    @property
    def total_samples(self) -> int:
        """How many trials there are."""
        return len(self._specs)

    @property
    def names(self) -> list[str]:
        """The trials' names, in the order in which they are handed out."""
        return [spec.name for spec in self._specs]

    @property
    def searcher(self) -> TrialList:
        """Where Tune's BOHB scheduler looks for `on_pause` and `on_unpause`."""
        return self

    @property
    def has_room(self) -> bool:
        """Whether another trial may run; those that a scheduler has paused take no room."""
        if self._max_concurrent is None:
            return True
        active = (Trial.PENDING, Trial.RUNNING)
        running = sum(trial.status in active for trial in self.trials.values())
        return running < self._max_concurrent

    def add_configurations(self, experiments: Any) -> None:
        """Note the experiment that the trials belong to."""
        (self._experiment,) = experiments

    def is_finished(self) -> bool:
        """Whether every trial has been handed out, or the searcher has nothing more to suggest."""
        exhausted = self._choices is not None and self._choices.is_exhausted
        return bool(self._finished) or exhausted or len(self.trials) == len(self._specs)

    def next_trial(self) -> Trial | None:
        """Return the next trial; None when enough are running or none can be had now."""
        if self.is_finished():
            return None
        spec = self._specs[len(self.trials)]
        takes_room = not self._folder(spec).ended and spec.name not in self._waiting
        if takes_room and not self.has_room:
            return None
        trial = self.trial(spec.name)
        if trial is not None:
            self.trials[spec.name] = trial
        return trial

    def trial(self, name: str) -> StudyTrial | None:
        """Return a trial by its name, handed out or not; None: no values can be had for it now.

        Raises:
            KeyError: there is no such trial.
        """
        if name not in self._made:
            spec = {spec.name: spec for spec in self._specs}[name]
            folder = self._folder(spec)
            config = self._config(spec, folder)
            if config is None:
                return None
            self._made[name] = self._make(spec, folder, config)
        return self._made[name]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Let the searcher hear of an epoch."""
        if self._choices is not None:
            self._choices.hear(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the searcher how a trial went."""
        if self._choices is not None:
            # why: Tune gives no result for a trial that was stopped while it was paused
            last = result or self.trials[trial_id].last_result or None
            self._choices.tell(trial_id, None if error else last)

    def on_pause(self, trial_id: str) -> None:
        """Let the searcher know that a trial waits; called by Tune's BOHB scheduler."""
        if self._choices is not None:
            self._choices.pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Let the searcher know that a trial goes on; called by Tune's BOHB scheduler."""
        if self._choices is not None:
            self._choices.unpause(trial_id)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out live objects; Tune pickles a copy that is never used."""
        return {"_specs": self._specs}

    def _folder(self, spec: TrialSpec) -> TrialFolder:
        return self._folders.get(spec.name, TrialFolder())

    def _make(self, spec: TrialSpec, folder: TrialFolder, config: dict[str, Any]) -> StudyTrial:
        assert self._experiment is not None
        trial = StudyTrial(
            self._experiment.run_identifier,
            config=config,
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
        waits = spec.name in self._waiting and not folder.ended
        if folder.newest >= 0:
            _take_up(trial, folder, waits)
        if waits:
            trial.set_status(Trial.PAUSED)  # type: ignore[no-untyped-call]
        return trial

    def _config(self, spec: TrialSpec, folder: TrialFolder) -> dict[str, Any] | None:
        if folder.config is not None:
            # why: a searcher or scheduler may have chosen its values; the data may have moved
            return {**folder.config, "data": spec.config["data"]}
        if self._choices is None:
            return dict(spec.config)
        values = self._choices.values_for(spec)
        return None if values is None else keep_schedule_valid(set_dotted(spec.config, values))


def _take_up(trial: Trial, folder: TrialFolder, waits: bool) -> None:
    """Let a trial go on from what its folder holds, or show it as ended."""
    assert trial.storage is not None
    fs: pyarrow.fs.FileSystem = trial.storage.storage_filesystem
    metrics: dict[str, Any] = {}
    for path in folder.checkpoints:
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
    if folder.ended or waits:
        # why: a scheduler may stop a waiting trial, whose last result says after which epoch
        trial.run_metadata.last_result = dict(metrics)
    if folder.ended:
        trial.set_status(Trial.TERMINATED)  # type: ignore[no-untyped-call]


def _name(trial: Trial) -> str:
    return str(trial.trial_id)
