"""The state of one study: its stages, its trials, its driver, the time it still needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from darts_ray.config import StudyConfig
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import STAGES, TRAINING_STAGES, Record
from darts_ray.study.files.study import (
    RESULTS_FILE,
    read_record,
    read_study_file,
)
from darts_ray.study.plan.naming import with_old_names
from darts_ray.study.status.driver import Driver, read_driver
from darts_ray.study.status.trials import (
    TrialState,
    TrialStatus,
    planned_trials,
    trials_of_finished,
    trials_of_unfinished,
)


@dataclass(frozen=True)
class StageStatus:
    """One stage.

    Attributes:
        name: of the stage.
        state: `running` also where only files tell of the driver; `stopped`: it has begun, is not
            done, and no driver is at work.
        trials: those that are known; of a stage that follows from another one, only once that one
            is done.
        num_trials: planned, of `select` at most; None where it is not known.
        seconds: wall time of what is done, without the present run.
        seconds_left: at the pace of the epochs so far, with as many trials at a time as now; None
            where that is not known.
    """

    name: str
    state: Literal["done", "running", "stopped", "not started"]
    trials: tuple[TrialStatus, ...]
    num_trials: int | None
    seconds: float
    seconds_left: float | None

    def count(self, state: TrialState) -> int:
        """Return how many trials are in a state; what is not known yet counts as waiting."""
        number = Counter(trial.state for trial in self.trials)[state]
        if state == "waiting" and self.num_trials is not None:
            number += max(0, self.num_trials - len(self.trials))
        return number


@dataclass(frozen=True)
class StudyStatus:
    """A study as its folder shows it.

    Attributes:
        folder: path or URI.
        state: `finished` also when trials have failed; `stopped`: it has begun, is not finished,
            and no driver is at work.
        driver: who is at work on it.
        stages: those that the configuration has, in order.
        winner: why the winner won; None before there is one.
        test_metric: name of the metric in `test_scores`.
        test_scores: of the winner's retrainings, by seed.
    """

    folder: str
    state: Literal["finished", "running", "stopped", "not started"]
    driver: Driver
    stages: tuple[StageStatus, ...]
    winner: str | None
    test_metric: str
    test_scores: Mapping[int, float]

    @property
    def failed(self) -> list[tuple[str, TrialStatus]]:
        """Every failed trial with its stage."""
        return [(s.name, t) for s in self.stages for t in s.trials if t.state == "failed"]

    @property
    def current_stage(self) -> StageStatus | None:
        """The first stage that is not done."""
        return next((stage for stage in self.stages if stage.state != "done"), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON; `count` stands for each stage's trials by state."""
        values = asdict(self)
        states: tuple[TrialState, ...] = ("done", "running", "interrupted", "failed", "waiting")
        for stage, ours in zip(values["stages"], self.stages, strict=True):
            stage["count"] = {state: ours.count(state) for state in states}
        return values


def study_status(folder: str | Path | StudyFolder) -> StudyStatus:
    """Return how far a study is, from any machine that sees its folder.

    Nothing is written, no lock is touched and Ray is not asked. A trial's newest epoch is that of
    its newest checkpoint.

    Raises:
        StudyError: the folder holds no study, or one of its files is not readable.
        StorageError: the storage fails.
    """
    place = folder if isinstance(folder, StudyFolder) else StudyFolder(folder)
    config, _ = read_study_file(place)
    record, rows = read_record(place), _read_results(place)
    modified = place.modified()
    folders = {"/".join(path.split("/")[:depth]) for path in modified for depth in (1, 2)}
    record = with_old_names(config, record, folders.__contains__)
    driver = read_driver(place, modified)
    stages = tuple(
        _stage(name, config, record, rows, place, modified, driver) for name in config.stages
    )
    measure = Measure.of(config.data)
    return StudyStatus(
        folder=place.uri,
        state=_state(stages, driver),
        driver=driver,
        stages=stages,
        winner=None if record.winner is None else record.winner.reason,
        test_metric=measure.test,
        test_scores={
            entry.seed: entry.metrics[measure.test]
            for entry in record.retrained_winner
            if measure.test in entry.metrics
        },
    )


def _stage(
    name: str,
    config: StudyConfig,
    record: Record,
    rows: pd.DataFrame,
    folder: StudyFolder,
    modified: Mapping[str, float],
    driver: Driver,
) -> StageStatus:
    measure = Measure.of(config.data)
    known = record.stages.get(name)
    seconds = 0.0 if known is None else known.seconds
    if record.has_finished(name):
        assert known is not None
        is_training = name in TRAINING_STAGES  # others have rows of trials that are not theirs
        trials = trials_of_finished(name, rows, record.failed, measure) if is_training else []
        return StageStatus(name, "done", tuple(trials), known.num_trials, seconds, 0.0)
    specs = planned_trials(config, record, name) if name in TRAINING_STAGES else []
    trials, number = [], _number(config, name)
    if specs is not None:
        number = len(specs)
        trials = trials_of_unfinished(
            name, specs, folder, modified, driver, record.failed, measure
        )
    begun = known is not None and _is_next(name, config, record)
    state: Literal["running", "stopped", "not started"] = "not started"
    if begun:
        state = "running" if driver.may_work else "stopped"
    return StageStatus(
        name, state, tuple(trials), number, seconds, _seconds_left(trials) if begun else None
    )


def _is_next(name: str, config: StudyConfig, record: Record) -> bool:
    """Tell whether every stage before this one is done."""
    earlier = STAGES[: STAGES.index(name)]
    return all(record.has_finished(s) for s in earlier if s in config.stages)


def _number(config: StudyConfig, stage: str) -> int | None:
    """Return how many trials a stage has at most, before they are known."""
    if stage == "retrain" and config.retrain is not None and config.retrain.cells == "winner":
        return len(config.retrain.seeds)
    return None


def _seconds_left(trials: list[TrialStatus]) -> float | None:
    running = sum(trial.state == "running" for trial in trials)
    paces = [t.seconds_per_epoch for t in trials if t.seconds_per_epoch is not None]
    if not running or not paces:
        return None
    open_trials = [trial for trial in trials if trial.state in ("running", "waiting")]
    epochs = sum(max(0, (trial.epochs or 0) - trial.epoch) for trial in open_trials)
    return epochs * sum(paces) / len(paces) / running


def _state(
    stages: tuple[StageStatus, ...], driver: Driver
) -> Literal["finished", "running", "stopped", "not started"]:
    if driver.may_work:
        return "running"
    if all(stage.state == "done" for stage in stages):
        return "finished"
    if all(stage.state == "not started" for stage in stages):
        return "not started"
    return "stopped"


def _read_results(folder: StudyFolder) -> pd.DataFrame:
    if not folder.has(RESULTS_FILE):
        return pd.DataFrame()
    rows: pd.DataFrame = folder.read_table(RESULTS_FILE).to_pandas()
    return rows
