"""By what a study's run is found in MLflow: methods, data, commit, a note; and its data."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from typing import Any

from darts_ray.config import DataConfig, StudyConfig
from darts_ray.study.plan.settings import searches_of
from darts_ray.tracking import StudyTracker

GIT_WAIT_S = 5.0


def study_tags(config: StudyConfig) -> dict[str, str]:
    """Return tags that follow from the configuration, which may grow."""
    tags = {"darts.dataset": config.data.source, "darts.version": version("darts_ray")}
    if config.search is not None:
        tags["darts.method"] = ", ".join(_methods(config))
    return tags


def first_tags(config: StudyConfig) -> dict[str, str]:
    """Return tags of the moment in which a study begins; its note may be edited in MLflow."""
    tags = {"mlflow.note.content": _note(config)}
    commit = _commit()
    return tags if commit is None else {**tags, "mlflow.source.git.commit": commit}


def note_data(tracker: StudyTracker, data: DataConfig, fingerprint: str) -> None:
    """Note on the study's run which data it works on.

    Args:
        tracker: of the study.
        data: with absolute paths.
        fingerprint: digest of the training data's content.
    """
    source: dict[str, Any]
    kind, source = "local", {"uri": data.path}
    if data.path is None:  # comes with a package, so there is nothing to load
        kind, source = "code", {"tags": {"darts.dataset": str(data.source)}}
    tracker.log_dataset(data.source, fingerprint, kind, source)


def _methods(config: StudyConfig) -> tuple[str, ...]:
    return tuple(dict.fromkeys(search.method.name for _, search in searches_of(config)))


def _note(config: StudyConfig) -> str:
    """Return what MLflow shows as the run's description, in Markdown."""
    lines = [f"**{config.name}**: {' → '.join(config.stages)} on `{config.data.source}`."]
    if config.search is not None:
        searches = searches_of(config)
        settings = [f"`{setting.text}`" for setting, _ in searches[:20]]
        more = f" and {len(searches) - 20} more" if len(searches) > 20 else ""
        lines.append(
            f"{len(searches)} settings x {len(config.seeds)} seeds of"
            f" {', '.join(_methods(config))}: {', '.join(settings)}{more}."
        )
    lines.append(
        "Results are metrics of this run; every trial is a child run. Tables, cells and the report"
        " are artifacts."
    )
    return "\n\n".join(lines)


def _commit() -> str | None:
    """Return the commit that is checked out where the driver was started; None without one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=GIT_WAIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # no git, or a file system that hangs
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
