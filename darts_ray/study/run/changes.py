"""What may change in the configuration of a study that goes on, field by field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

from pydantic import BaseModel

from darts_ray.config import (
    RetrainSection,
    StudyConfig,
    apply_override,
    build_config,
    parse_yaml,
    to_yaml,
)
from darts_ray.errors import ConfigError, StudyError
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import STUDY_FILE
from darts_ray.study.plan.settings import search_trials


class Change(Enum):
    """What a changed value of a field means for a study that has begun."""

    FREE = "may change at any time"
    PENDING = "the stage of this section is done again"
    GROWS = "may gain trials; those that are there must stay"
    FIXED = "may change until the stage of this section has begun"
    SEARCH = "may change until the search stage has begun"
    NEVER = "another value is another study"


CLASSES = {
    "name": Change.FREE,  # both follow the folder
    "output": Change.FREE,
    "data": Change.NEVER,
    # the same data may have moved; their fingerprint is compared as well
    "data.path": Change.FREE,
    "data.cache_dir": Change.FREE,
    "data.download": Change.FREE,
    "data.workers": Change.FREE,
    "seeds": Change.GROWS,
    "search": Change.GROWS,
    "benchmark": Change.PENDING,
    "baseline": Change.FREE,  # only the report reads it
    "select": Change.FIXED,
    "select.seeds": Change.GROWS,
    "retrain": Change.FIXED,
    "retrain.seeds": Change.GROWS,
    "retrain.cells": Change.GROWS,
    "retrain.cells.top": Change.GROWS,
    "export": Change.PENDING,
    "tracking": Change.FREE,
    "resources": Change.FREE,
    # early-stopped and full searches must not mix in one statistic
    "tune.scheduler": Change.SEARCH,
    "tune.searcher": Change.SEARCH,
    "tune.perturbation_interval": Change.SEARCH,
    "tune.grace_period": Change.SEARCH,
    "tune.num_samples": Change.GROWS,
    "tune.max_failures": Change.FREE,
    "tune.checkpoint_every": Change.FREE,
    "tune.keep_checkpoints": Change.FREE,
}
"""By dotted name; a section's entry holds for its fields that have none of their own."""


def class_of(name: str) -> Change | None:
    """Return the class of a field by its dotted name; None: nobody has thought of it."""
    while name not in CLASSES and "." in name:
        name = name.rpartition(".")[0]
    return CLASSES.get(name)


def changed_config(
    config: StudyConfig, overrides: Iterable[str], place: StudyFolder
) -> StudyConfig:
    """Return a study's configuration with some values changed.

    Args:
        config: the study as it is in its folder.
        overrides: `a.b=c` texts, as of `load_config`.
        place: its folder, which decides about name and output.

    Raises:
        ConfigError: a key is unknown, a value is wrong, or it is what the folder decides.
    """
    values = parse_yaml(to_yaml(config), place.child(STUDY_FILE))
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in ("name", "output"):
            raise ConfigError(
                f"--set {override}: a study that is there has its name and output from its folder,"
                f" {place}. Move or copy the folder, and resume it there."
            )
        apply_override(values, override)
    return build_config(values, f"{place.child(STUDY_FILE)} with --set")


def refused_changes(before: StudyConfig, now: StudyConfig, begun: set[str]) -> list[str]:
    """Name the fields that differ although what has begun depends on them, and say why not.

    Args:
        before: the study as it is in its folder.
        now: as it shall go on.
        begun: stages that have begun.
    """
    refused = []
    for name in changed_fields(before, now):
        section = name.partition(".")[0]
        kind = class_of(name)
        if (
            kind in (Change.NEVER, None)
            or (kind is Change.SEARCH and "search" in begun)
            or (kind is Change.FIXED and section in begun)
        ):
            refused.append(f"{name} ({(kind or Change.NEVER).value})")
        elif kind is Change.GROWS and section in ("select", "retrain") and section in begun:
            ours, theirs = getattr(before, section), getattr(now, section)
            shrinks = (
                _num_cells(theirs) < _num_cells(ours)
                if name.startswith("retrain.cells")
                else bool(set(ours.seeds) - set(getattr(theirs, "seeds", ())))
            )
            refused.extend([f"{name} ({kind.value})"] if shrinks else [])
    return refused


def check_growth(before: StudyConfig, now: StudyConfig, place: object) -> None:
    """Refuse a plan of searches that lacks some which the study has.

    Raises:
        StudyError: the message names some of them.
    """
    kept = {trial.name for trial in _searches(now)}
    lost = [trial for trial in _searches(before) if trial.name not in kept]
    if lost:
        shown = "; ".join(f"{trial.setting}, seed {trial.seed}" for trial in lost[:3])
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        named = [n for n in changed_fields(before, now) if class_of(n) is Change.GROWS]
        raise StudyError(
            f"{place} holds a study that differs in: {', '.join(named)}. It would"
            f" lose the searches {shown}{more}. A study grows: add seeds, settings or methods and"
            " keep those that are there, as what has been seen must not be chosen from; or begin"
            " a new one under another name (--set name=...)."
        )


def changed_fields(before: StudyConfig, now: StudyConfig) -> list[str]:
    """Return the dotted names of the fields that differ."""
    return list(_differences(before, now, ""))


def _num_cells(section: RetrainSection) -> float:
    """Return how many cells are retrained at most; what has been seen may not become less."""
    which = section.cells
    if which == "winner":
        return 1
    return math.inf if which == "each" else which.top


def _searches(config: StudyConfig) -> list[Any]:
    return [] if config.search is None else search_trials(config)


def _differences(before: Any, now: Any, prefix: str) -> Iterator[str]:
    names = type(now).model_fields if isinstance(now, BaseModel) else {}
    for name in names:
        ours, theirs = getattr(before, name), getattr(now, name)
        if ours == theirs:
            continue
        if isinstance(ours, BaseModel) and type(ours) is type(theirs):
            yield from _differences(ours, theirs, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
