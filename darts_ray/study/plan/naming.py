"""The names that earlier versions gave to a study's searches, as long as it has them."""

from __future__ import annotations

from collections.abc import Callable

from darts_ray.config import StudyConfig
from darts_ray.study.files.record import Record
from darts_ray.study.plan.settings import first_content_names, old_names

OLD_NAME = "search/search-000"


def with_old_names(config: StudyConfig, record: Record, has: Callable[[str], bool]) -> Record:
    """Return the record with the names that the study's searches have had so far.

    Args:
        config: the study as its study.yaml has it.
        record: of the study.
        has: whether the study's folder holds something.
    """
    if record.aliases or config.search is None or not has("search"):
        return record
    if has(OLD_NAME):
        begun = {(setting, seed): trial for trial, setting, seed in ended_searches(record)}
        return record.with_aliases(old_names(config, begun))
    first = first_content_names(config)
    if first != {name: name for name in first} and has(f"search/{next(iter(first.values()))}"):
        return record.with_aliases(first)
    return record


def ended_searches(record: Record) -> list[tuple[str, str, int]]:
    """Return trial, setting and seed of every search that has ended, well or not."""
    ended = [(entry.trial, entry.setting, entry.seed) for entry in record.search]
    failed = [item for item in record.failed if item.stage == "search"]
    return [*ended, *((item.trial, item.setting, item.seed) for item in failed)]
