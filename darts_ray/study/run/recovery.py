"""What a study that goes on has to do again: because it grew, or because files are gone."""

from __future__ import annotations

from collections.abc import Callable

from darts_ray.config import StudyConfig
from darts_ray.errors import DamagedFileError, StudyError
from darts_ray.study.files.entries import candidates
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import TRAINING_STAGES, Record, StageState
from darts_ray.study.files.study import (
    ALPHAS_FILE,
    RESULTS_FILE,
    TABLE_FILE,
    read_record,
    write_record,
)
from darts_ray.study.plan.estimate import num_retrained
from darts_ray.study.plan.naming import ended_searches, with_old_names
from darts_ray.study.plan.settings import search_trials
from darts_ray.study.run.changes import Change, changed_fields, class_of
from darts_ray.study.run.exporting import NETWORK_FILE


def begun_stages(folder: StudyFolder) -> set[str]:
    """Return the stages that have begun; by the trials where the record is damaged."""
    try:
        return set(read_record(folder).stages)
    except DamagedFileError:
        return {stage for stage in TRAINING_STAGES if folder.has(stage)}


def bring_up_to_date(
    folder: StudyFolder, before: StudyConfig, now: StudyConfig, say: Callable[[str], None]
) -> Record:
    """Write the record from which a study goes on, and return it.

    A stage whose trials have become more, whose files are gone or whose options have changed is
    marked as not done. Trials that ended are found in their folders and not repeated.

    Args:
        folder: the study's folder.
        before: the study as its study.yaml has it.
        now: as it goes on.
        say: receives one line about each thing that is done again.

    Raises:
        StudyError: the record names searches that the configuration does not have.
    """
    record = with_old_names(before, _readable(folder, say), folder.has)
    _check_plan(folder, record, now)
    written = record
    counts = _planned(record, now)
    for stage in TRAINING_STAGES:
        if record.has_finished(stage) and counts[stage] not in (
            0,
            record.stages[stage].num_trials,
        ):
            added = counts[stage] - record.stages[stage].num_trials
            say(f"{stage}: {added} trials are new")
            record = record.beginning(stage, counts[stage])
    if record.has_finished("retrain"):
        lost = [
            entry.trial
            for entry in record.retrain
            if entry.checkpoint is not None
            and not folder.has(f"{entry.checkpoint}/{NETWORK_FILE}")
        ]
        if lost:
            say(f"retrain: the checkpoint of {', '.join(lost)} is gone; it is trained again")
            record = record.beginning("retrain", record.stages["retrain"].num_trials)
    again = [name for name in changed_fields(before, now) if class_of(name) is Change.PENDING]
    for stage in ("benchmark", "export"):
        changed = [name for name in again if name.partition(".")[0] == stage]
        if changed and record.has_finished(stage):
            say(f"{stage}: {', '.join(changed)} changed")
            record = record.beginning(stage, 0)
    if (
        now.benchmark.table is not None
        and record.has_finished("benchmark")
        and not folder.has(TABLE_FILE)
    ):
        say(f"benchmark: {TABLE_FILE} is gone; true accuracies are looked up again")
        record = record.beginning("benchmark", 0)
    if record is not written or record.aliases:
        write_record(folder, record)
    return record


def _readable(folder: StudyFolder, say: Callable[[str], None]) -> Record:
    """Return the record; where it or a table is damaged, one whose stages are to be done again."""
    record = Record()
    try:
        record = read_record(folder)
        damaged = False
    except DamagedFileError as error:
        say(str(error))
        damaged = True
    for name in (RESULTS_FILE, ALPHAS_FILE):
        if not folder.has(name):
            damaged = damaged or (name == RESULTS_FILE and "search" in record.stages)
            continue
        try:
            folder.read_table(name)
        except DamagedFileError as error:
            say(str(error))
            folder.delete(name)
            damaged = True
    if not damaged:
        return record
    for stage in TRAINING_STAGES:
        if folder.has(stage):
            state = record.stages.get(stage, StageState())
            record = record.beginning(stage, state.num_trials)
    write_record(folder, record)
    return record


def _check_plan(folder: StudyFolder, record: Record, now: StudyConfig) -> None:
    if now.search is None:
        return
    planned = {trial.name for trial in search_trials(now, record.aliases)}
    lost = [search for search in ended_searches(record) if search[0] not in planned]
    if lost:
        shown = "; ".join(f"{trial} ({setting}, seed {seed})" for trial, setting, seed in lost[:3])
        raise StudyError(
            f"{folder}: holds searches that its configuration lacks: {shown}. A study may gain"
            " seeds and settings but not lose any, and what a search was made with may not"
            " change. Put them back into study.yaml, or begin a new study under another name."
        )


def _planned(record: Record, now: StudyConfig) -> dict[str, int]:
    """Return how many trials each stage should have; 0 where the study has no such stage."""
    searches = 0 if now.search is None else len(search_trials(now, record.aliases))
    cells = len(candidates(record.search))
    return {
        "search": searches,
        "select": 0 if now.select is None else cells * len(now.select.seeds),
        "retrain": _planned_retrainings(now, cells),
    }


def _planned_retrainings(now: StudyConfig, cells: int) -> int:
    return 0 if now.retrain is None else num_retrained(now, cells) * len(now.retrain.seeds)
