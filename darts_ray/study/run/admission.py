"""Whether a study may work in a folder: an empty one, or one that already holds this study."""

from __future__ import annotations

from typing import Any

from darts_ray.config import StudyConfig
from darts_ray.errors import StudyError
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import STUDY_FILE, read_record, read_study_file
from darts_ray.study.plan.settings import search_trials


def admit(folder: StudyFolder, config: StudyConfig, goes_on: bool) -> dict[str, Any] | None:
    """Check that a study may use a folder; write nothing.

    Sections may be added and stages that have not begun may be changed, as may resources,
    retries and tracking; what finished trials were made with may not.

    Args:
        folder: the study's folder.
        config: the study, with absolute paths.
        goes_on: whether it may continue what is there.

    Returns:
        The provenance of the study that is there; None for a new one.

    Raises:
        StudyError: the folder holds another study, or this one while `goes_on` is false, or
            something that is no study.
    """
    if not folder.has(STUDY_FILE):
        foreign = [name for name in folder.names() if not name.startswith(".")]
        if foreign:
            raise StudyError(
                f"{folder} is not empty and holds no study (found: {', '.join(foreign[:5])})."
                " Choose another name or output (--set name=...)."
            )
        return None
    known, provenance = read_study_file(folder)
    if not goes_on:
        raise StudyError(
            f"{folder} already holds a study. Continue it with `darts-ray resume {folder}`,"
            " choose another name (--set name=...) or output (--set output=...), or delete the"
            " folder."
        )
    changed = _changes(known, config, set(read_record(folder).stages))
    if changed:
        raise StudyError(
            f"{folder} holds a study that differs in: {', '.join(changed)}. Continue it as it was"
            f" with `darts-ray resume {folder}`, or begin a new one under another name"
            " (--set name=...)."
        )
    return provenance


def _changes(known: StudyConfig, config: StudyConfig, begun: set[str]) -> list[str]:
    """Name the sections that finished trials depend on and that differ."""
    changed = []
    # why: the same data may have moved; their fingerprint is compared by the caller
    places = {"path", "cache_dir", "download", "workers"}
    if known.data.model_dump(exclude=places) != config.data.model_dump(exclude=places):
        changed.append("data")
    if "search" in begun and _searches(known) != _searches(config):
        changed.append("search, seeds or tune.num_samples")
    for stage in ("select", "retrain"):
        if stage in begun and getattr(known, stage) != getattr(config, stage):
            changed.append(stage)
    return changed


def _searches(config: StudyConfig) -> list[dict[str, Any]]:
    if config.search is None:
        return []
    trials = search_trials(config)
    return [{k: v for k, v in trial.config.items() if k != "data"} for trial in trials]
