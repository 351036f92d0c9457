"""Schedulers and searchers that survive an interruption, with all that they know.

A scheduler that pauses trials (HyperBand, BOHB) compares them in brackets, which no trial's folder
knows of. So what scheduler and searcher hold is kept beside the trials' folders, and a resume goes
on with it: comparisons that have been made stand, trials that wait go on waiting.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler

from darts_ray.errors import StudyError
from darts_ray.tune.scheduling.state_file import KeptState, StateFile, to_bytes
from darts_ray.tune.trials.choosing import SharedChoices
from darts_ray.tune.trials.listing import TrialList

STUCK_S = 60.0
"""How long a scheduler may let all trials wait, with none running, before that is an error."""

logger = logging.getLogger("darts_ray.tune")


class KeptScheduler(TrialScheduler):
    """Hands everything to another scheduler, and keeps what that one knows.

    Args:
        scheduler: decides.
        file: where it is kept.
        queue: the stage's trials.
        state: what an interrupted run has kept; None: nothing.
        choices: kept as well, if given.
        keeps: whether the scheduler is kept, or only the choices.
    """

    def __init__(
        self,
        scheduler: TrialScheduler,
        file: StateFile,
        queue: TrialList,
        state: KeptState | None,
        choices: SharedChoices | None,
        *,
        keeps: bool,
    ) -> None:
        self._scheduler = scheduler
        self._file = file
        self._queue = queue
        self._choices = choices
        self._keeps = keeps
        state = state or KeptState()
        self._pickled = state.scheduler
        self._live = set(state.live)
        self._waiting = set(state.waiting)
        self._to_come = set(self._live)
        self._ended: list[Trial] = []
        self._returning: set[str] = set()
        self._has_changed = False
        # why: Ray compares a bracket's trials as soon as those that it knows have come far enough
        self._has_met_all = choices is not None or not isinstance(scheduler, HyperBandScheduler)
        self._stuck_since: float | None = None

    @property
    def metric(self) -> Any:
        """What the scheduler looks at."""
        return self._scheduler.metric

    @property
    def supports_buffered_results(self) -> Any:
        """Whether trials may run ahead of the scheduler."""
        return self._scheduler.supports_buffered_results

    def set_search_properties(self, metric: Any, mode: Any, **spec: Any) -> bool:
        """Hand on what Tune's own configuration says."""
        return bool(self._scheduler.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Let the scheduler meet a trial that it does not know yet."""
        name = trial.trial_id
        if self._pickled is not None:
            pickled, self._pickled = self._pickled, None
            self._scheduler = self._file.scheduler(pickled, self._queue.trial)
        if not self._has_met_all:
            self._has_met_all = True
            self._introduce(tune_controller)
        self._has_changed = True
        if name in self._returning:
            self._returning.discard(name)
        elif name in self._to_come:
            self._to_come.discard(name)
            if trial.status == Trial.TERMINATED:  # between the last state and the interruption
                self._ended.append(trial)
        elif trial.status != Trial.TERMINATED or not self._keeps:
            self._live.add(name)
            self._scheduler.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Let the scheduler know of a trial that failed, unless it keeps its place."""
        # why: Tune adds a trial that it repeats again, which takes it out of its bracket
        is_repeated = trial.status == Trial.ERROR
        keeps_place = isinstance(self._scheduler, HyperBandScheduler)
        if is_repeated and keeps_place and trial.trial_id not in self._waiting:
            self._returning.add(trial.trial_id)
            return
        self._forget(trial)
        self._scheduler.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return what the scheduler decides, once that is kept."""
        decision = self._scheduler.on_trial_result(tune_controller, trial, result)
        self._has_changed = True
        if decision == TrialScheduler.PAUSE:
            self._waiting.add(trial.trial_id)
        elif decision == TrialScheduler.STOP:
            self._forget(trial)
        if decision != TrialScheduler.CONTINUE:
            self._keep()
        return decision

    def on_trial_complete(
        self, tune_controller: Any, trial: Trial, result: dict[str, Any]
    ) -> None:
        """Let the scheduler know of a trial that has ended."""
        self._forget(trial)
        self._scheduler.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Let the scheduler know of a trial that was stopped while it did not run."""
        self._forget(trial)
        self._scheduler.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return the trial that the scheduler wants to run next, if there is room for it.

        Raises:
            StudyError: the scheduler lets all trials wait for good.
        """
        while self._ended and not self._to_come:
            trial = self._ended.pop()
            self._forget(trial)
            self._scheduler.on_trial_complete(tune_controller, trial, trial.last_result)
        self._keep()
        chosen = self._scheduler.choose_trial_to_run(tune_controller)
        if chosen is None:
            self._watch(tune_controller)
            return None
        self._stuck_since = None
        if chosen.trial_id in self._to_come:
            return None  # Tune has not met it yet, and will once there is room
        if chosen.status == Trial.PAUSED and not self._queue.has_room:
            return None
        if chosen.trial_id in self._waiting:
            self._waiting.discard(chosen.trial_id)
            self._has_changed = True
        return chosen

    def keep(self) -> None:
        """Write what scheduler and searcher know, once a run has ended or was interrupted.

        Raises:
            StorageError: the storage fails.
        """
        self._has_changed = True
        self._keep()

    def debug_string(self) -> str:
        """Return what the scheduler says of itself."""
        return str(self._scheduler.debug_string())

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything out; Tune pickles a copy that is never used."""
        return {}

    def _introduce(self, tune_controller: Any) -> None:
        """Let HyperBand meet all trials of the stage at once, though Tune meets them in turn."""
        for name in self._queue.names:
            trial = self._queue.trial(name)
            if name not in self._live and trial is not None and trial.status != Trial.TERMINATED:
                self._scheduler.on_trial_add(tune_controller, trial)
                self._live.add(name)
                self._to_come.add(name)

    def _forget(self, trial: Trial) -> None:
        self._live.discard(trial.trial_id)
        self._waiting.discard(trial.trial_id)
        self._has_changed = True

    def _watch(self, tune_controller: Any) -> None:
        """See to it that trials do not wait for each other for good."""
        states = {trial.status for trial in tune_controller.get_trials()}
        if Trial.PAUSED not in states or states & {Trial.PENDING, Trial.RUNNING}:
            self._stuck_since = None
            return
        if isinstance(self._scheduler, HyperBandScheduler):
            # why: when a bracket's last running trial fails, Ray does not compare the others
            for bracket in filter(None, (b for band in self._scheduler._hyperbands for b in band)):
                if any(trial.status == Trial.PAUSED for trial in bracket.current_trials()):
                    self._scheduler._process_bracket(tune_controller, bracket)
            self._has_changed = True
        now = time.monotonic()
        self._stuck_since = self._stuck_since or now
        if now - self._stuck_since > STUCK_S:
            raise StudyError(
                f"tune.scheduler: {type(self._scheduler).__name__} has paused all trials and lets"
                " none go on. Give it as many trials as it compares at a time (more settings or"
                " seeds), or take another scheduler in a study of another name."
            )

    def _keep(self) -> None:
        """Write what has changed.

        Raises:
            StorageError: the storage fails.
        """
        if not self._has_changed:
            return
        self._has_changed = False
        scheduler = self._pickle(self._scheduler) if self._keeps else None
        choices = None if self._choices is None else self._pickle(self._choices)
        if scheduler is None:
            self._file.write(KeptState(choices=choices))
        else:
            live, waiting = frozenset(self._live), frozenset(self._waiting)
            self._file.write(KeptState(live, waiting, scheduler, choices))

    def _pickle(self, value: Any) -> bytes | None:
        try:
            return to_bytes(value)
        except Exception as error:  # whatever the user's class holds
            name = type(value).__name__
            if isinstance(value, SharedChoices):
                self._choices, name = None, "the searcher"
            else:
                self._keeps = False
            logger.warning(
                "What %s knows cannot be kept (%s); a resume of this study begins it anew",
                name,
                error,
            )
            return None
