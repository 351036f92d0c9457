"""In which state each trial of a stage is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from darts_ray.config import RetrainConfig, SearchConfig, StudyConfig
from darts_ray.study.files.entries import candidates, cells_to_retrain
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import Failure, Record
from darts_ray.study.plan.settings import retrain_trials, search_trials, select_trials
from darts_ray.study.status.driver import Driver
from darts_ray.tune import TrialSpec
from darts_ray.tune.reading import TrialProgress, read_progress
from darts_ray.tune.trials.folder import ATTEMPT

TrialState = Literal["done", "running", "interrupted", "failed", "waiting"]


@dataclass(frozen=True)
class TrialStatus:
    """One trial as its folder or the study's tables show it.

    Attributes:
        name: of the trial.
        setting: the values of the study's axes as text.
        seed: of the trial.
        state: `interrupted`: it has begun and no driver is at work; `waiting`: it has not begun,
            or waits to go on.
        epoch: the newest in a checkpoint; 0 before there is one.
        epochs: planned; None where it is not known.
        score: newest value of what the study is judged by: in the test where there was one, else
            on held-out data; None before there is one.
        score_name: which metric that is.
        seconds_per_epoch: mean of its epochs; None before there is one.
        last_change: of a file in its folder, in seconds since 1970; None before there is one.
        error: first line of why it failed; None when it did not.
    """

    name: str
    setting: str
    seed: int
    state: TrialState
    epoch: int = 0
    epochs: int | None = None
    score: float | None = None
    score_name: str | None = None
    seconds_per_epoch: float | None = None
    last_change: float | None = None
    error: str | None = None


def planned_trials(config: StudyConfig, record: Record, stage: str) -> list[TrialSpec] | None:
    """Return a stage's trials; None as long as they follow from a stage that is not done."""
    if stage == "search":
        return search_trials(config, record.aliases)
    if stage == "select":
        done = record.has_finished("search")
        return select_trials(config, candidates(record.search)) if done else None
    if stage == "retrain":
        before = "search" if config.select is None else "select"
        is_given = config.retrain is not None and config.retrain.genotype is not None
        if record.winner is None or not (is_given or record.has_finished(before)):
            return None
        assert config.retrain is not None
        cells = cells_to_retrain(record, config.retrain.cells, Measure.of(config.data))
        return retrain_trials(config, cells)
    return []


def trials_of_finished(
    stage: str, rows: pd.DataFrame, failed: Iterable[Failure], measure: Measure
) -> list[TrialStatus]:
    """Return a finished stage's trials from the study's tables alone.

    Args:
        stage: its name.
        rows: of results.parquet.
        failed: all failures of the study.
        measure: what the study is judged by.
    """
    lost = {item.trial: item for item in failed if item.stage == stage}
    trials = []
    ours = rows[rows["stage"] == stage] if len(rows) else rows
    groups = ours.sort_values("epoch").groupby("trial", sort=False) if len(ours) else ()
    for name, epochs in groups:
        last = epochs.iloc[-1]
        failure = lost.pop(str(name), None)
        score, score_name = _score(last.to_dict(), measure)
        trials.append(
            TrialStatus(
                name=str(name),
                setting=str(last["setting"]),
                seed=int(last["seed"]),
                state="done" if failure is None else "failed",
                epoch=int(last["epoch"]),
                score=score,
                score_name=score_name,
                seconds_per_epoch=_mean(epochs.get("seconds", ())),
                error=None if failure is None else _first_line(failure.error),
            )
        )
    trials += [
        TrialStatus(item.trial, item.setting, item.seed, "failed", error=_first_line(item.error))
        for item in lost.values()
    ]
    return trials


def trials_of_unfinished(
    stage: str,
    specs: Sequence[TrialSpec],
    folder: StudyFolder,
    modified: Mapping[str, float],
    driver: Driver,
    failed: Iterable[Failure],
    measure: Measure,
) -> list[TrialStatus]:
    """Return the trials of a stage that runs or was interrupted, from the trials' own folders.

    Args:
        stage: its name.
        specs: its trials.
        folder: the study's folder.
        modified: its files with the times of their last change.
        driver: who is at work on the study.
        failed: failures of an earlier pass.
        measure: what the study is judged by.
    """
    changes: dict[str, float] = {}
    for path, time in modified.items():
        parts = path.split("/")
        if len(parts) > 2 and parts[0] == stage:
            changes[parts[1]] = max(time, changes.get(parts[1], 0.0))
    progress = read_progress(stage, [s.name for s in specs if s.name in changes], folder.uri)
    lost = {item.trial: item for item in failed if item.stage == stage}
    epochs: dict[str, int] = {}
    trials = []
    for spec in specs:
        if spec.setting not in epochs:
            epochs[spec.setting] = _planned_epochs(stage, spec.config)
        seen = progress.get(spec.name, TrialProgress())
        noted = modified.get(f"{stage}/{spec.name}/{ATTEMPT}")
        is_new = driver.since is None or (noted or changes.get(spec.name, 0.0)) >= driver.since
        state = _state(seen, spec.name in lost, driver, is_new)
        error = None
        if state == "failed":
            error = seen.error or (lost[spec.name].error if spec.name in lost else "unknown")
        score, score_name = _score(seen.history[-1] if seen.history else {}, measure)
        trials.append(
            TrialStatus(
                name=spec.name,
                setting=spec.setting,
                seed=spec.seed,
                state=state,
                epoch=int(seen.history[-1]["epoch"]) if seen.history else 0,
                epochs=epochs[spec.setting],
                score=score,
                score_name=score_name,
                seconds_per_epoch=_mean(e["seconds"] for e in seen.history if "seconds" in e),
                last_change=changes.get(spec.name),
                error=None if error is None else _first_line(error),
            )
        )
    return trials


def _state(seen: TrialProgress, lost: bool, driver: Driver, is_new: bool) -> TrialState:
    """Return a trial's state.

    Args:
        seen: what its folder holds.
        lost: whether it failed in an earlier pass.
        driver: who is at work on the study.
        is_new: whether what its folder says is from the driver that works now.
    """
    if seen.ended:
        return "done"
    if driver.may_work:
        if not is_new:
            return "waiting"
        if seen.attempt is None:  # of an earlier version, which notes nothing
            return "running" if seen.history else "waiting"
        return "failed" if seen.attempt == "failed" else "running"
    if seen.attempt == "failed" or lost:
        return "failed"
    return "interrupted" if seen.attempt is not None or seen.history else "waiting"


def _planned_epochs(stage: str, values: Mapping[str, Any]) -> int:
    if stage == "search":
        return SearchConfig.model_validate(values).total_epochs
    return RetrainConfig.model_validate(values).epochs


def _score(metrics: Mapping[Any, Any], measure: Measure) -> tuple[float | None, str | None]:
    for name in (measure.test, measure.validation, f"train_{measure.name}"):
        value = metrics.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value), name
    return None, None


def _mean(values: Iterable[Any]) -> float | None:
    finite = [float(value) for value in values if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["unknown"])[0]
