"""The studies below an output folder, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from darts_ray.errors import DartsError, StudyError
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import STUDY_FILE, read_record, read_study_file
from darts_ray.study.report.statistics import summarise
from darts_ray.study.report.verdict import verdict
from darts_ray.study.status.reading import StudyStatus, study_status

MAX_DEPTH = 3
"""Folders below the output folder that are looked into; a study's own folders never are."""


@dataclass(frozen=True)
class StudyLine:
    """One study in short.

    Attributes:
        name: of its folder, relative to the output folder.
        folder: path or URI.
        state: as of `StudyStatus`; `unreadable` with `error`.
        stage: the first that is not done; None where all are.
        done: trials of all stages that ended well.
        trials: all that are known.
        failed: trials that failed.
        winner: why the winner won; None before there is one.
        test_metric: name of the test metric; None for what is unreadable.
        test_mean: mean test score over the retrainings; None without.
        test_std: its standard deviation; None for fewer than two.
        last_change: of any of its files, in seconds since 1970.
        error: why it cannot be read.
        verdict: which setting is best and whether that is shown, see `verdict`; None where there
            is nothing to compare.
    """

    name: str
    folder: str
    state: str
    stage: str | None = None
    done: int = 0
    trials: int = 0
    failed: int = 0
    winner: str | None = None
    test_metric: str | None = None
    test_mean: float | None = None
    test_std: float | None = None
    last_change: float | None = None
    error: str | None = None
    verdict: str | None = None


def list_studies(output: str | Path = "runs") -> list[StudyLine]:
    """Return the studies below an output folder (path or URI), by name.

    A study that cannot be read gets a line that says why.

    Raises:
        StudyError: there is no such folder.
        StorageError: the storage fails.
    """
    place = StudyFolder(output)
    if not place.names():
        raise StudyError(
            f"{place}: there is no such folder, or it is empty. Name the folder that holds your"
            " studies (`output` in their configurations)."
        )
    return [_line(name, folder) for name, folder in _studies(place, "", 0)]


def _studies(place: StudyFolder, prefix: str, depth: int) -> Iterator[tuple[str, StudyFolder]]:
    if place.has(STUDY_FILE):
        yield prefix.rstrip("/") or ".", place
        return
    if depth == MAX_DEPTH:
        return
    for name in place.folders():
        if not name.startswith("."):
            yield from _studies(StudyFolder(place.child(name)), f"{prefix}{name}/", depth + 1)


def _line(name: str, folder: StudyFolder) -> StudyLine:
    try:
        status = study_status(folder)
        judgement = verdict(read_study_file(folder)[0], read_record(folder))
    except DartsError as error:
        return StudyLine(name, folder.uri, "unreadable", error=str(error))
    current = status.current_stage
    test = summarise(list(status.test_scores.values()))
    return StudyLine(
        name=name,
        folder=folder.uri,
        state=status.state,
        stage=None if current is None else current.name,
        done=sum(stage.count("done") for stage in status.stages),
        trials=_num_trials(status),
        failed=len(status.failed),
        winner=status.winner,
        test_metric=status.test_metric,
        test_mean=None if test is None else test.mean,
        test_std=None if test is None else test.std,
        last_change=status.driver.last_sign,
        verdict=judgement,
    )


def _num_trials(status: StudyStatus) -> int:
    return sum(max(stage.num_trials or 0, len(stage.trials)) for stage in status.stages)
