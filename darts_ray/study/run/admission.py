"""Whether a study may work in a folder: an empty one, or one that already holds this study."""

from __future__ import annotations

from typing import Any

from darts_ray.config import StudyConfig
from darts_ray.errors import StudyError
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import STUDY_FILE, read_study_file
from darts_ray.study.run.changes import check_growth, refused_changes
from darts_ray.study.run.recovery import begun_stages


def admit(folder: StudyFolder, config: StudyConfig, goes_on: bool) -> dict[str, Any] | None:
    """Check that a study may use a folder; write nothing.

    Sections and trials may be added, and `changes.CLASSES` says which fields may change when;
    what trials that have begun were made with may not.

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
    begun = begun_stages(folder)
    changed = refused_changes(known, config, begun)
    if "search" in begun:
        check_growth(known, config, folder)
    if changed:
        raise StudyError(
            f"{folder} holds a study that differs in: {', '.join(changed)}. Continue it as it was"
            f" with `darts-ray resume {folder}`, or begin a new one under another name"
            " (--set name=...)."
        )
    return provenance
