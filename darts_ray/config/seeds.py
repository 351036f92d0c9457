"""Seeds as a list, a range `0..49` or `{first: 0, count: 50}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from darts_ray.config.base import Seed

MAX_SEEDS = 100_000


def _spelled_out(value: object) -> object:
    bounds = _bounds(value)
    if bounds is not None and bounds[0] < bounds[1] <= bounds[0] + MAX_SEEDS:
        return tuple(range(*bounds))
    if isinstance(value, Mapping | str | int):
        shown = dict(value) if isinstance(value, Mapping) else value
        raise ValueError(
            "write a list such as [0, 1, 2], a range such as 0..49 or {first: 0, count: 50}, of"
            f" {MAX_SEEDS} seeds at most; not {shown!r}"
        )
    return value


def _bounds(value: object) -> tuple[int, int] | None:
    """Return the first seed and the one after the last."""
    if isinstance(value, str):
        written = re.fullmatch(r"\s*(\d{1,18})\s*\.\.\s*(\d{1,18})\s*", value)
        return None if written is None else (int(written[1]), int(written[2]) + 1)
    if isinstance(value, Mapping) and set(value) <= {"first", "count"}:
        first, count = value.get("first", 0), value.get("count")
        if type(first) is int and type(count) is int:
            return first, first + count
    return None


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is listed twice")
    return seeds


# why distinct: trials are named by their seed, and one name stands for one trial
Seeds = Annotated[
    tuple[Seed, ...],
    Field(min_length=1),
    AfterValidator(_distinct),
    BeforeValidator(_spelled_out, json_schema_input_type=tuple[Seed, ...] | str | dict[str, int]),
]
