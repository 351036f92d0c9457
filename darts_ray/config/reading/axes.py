"""The axes of a search section: scalars that a study searches over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from darts_ray.errors import ConfigError

AXIS_KINDS = ("grid", "choice", "uniform", "loguniform")
FOLLOWERS = {
    "optim.weight_lr_min": "optim.weight_lr",
    "method.weight": "space",
    "method.base.weight": "space",
    "method.samples": "space",
    "method.batches": "space",
    "method.finalists": "space",
    "method.steps_per_round": "space",
}
"""Search values that are derived from another one where they are not given."""


@dataclass(frozen=True)
class Axis:
    """One searched-over scalar: `grid` and `choice` list values, the others give two bounds."""

    kind: str
    values: tuple[Any, ...]


def one_by_one(axes: Mapping[str, Axis], within: str = "") -> Iterator[dict[str, Any]]:
    """Yield the setting of all first values, then those that differ from it in one value.

    Args:
        axes: by dotted name.
        within: vary only the axes of this section; empty: all.
    """
    first = {name: axis.values[0] for name, axis in axes.items()}
    yield first
    for name, axis in axes.items():
        if not within or name.partition(".")[0] == within:
            for value in axis.values[1:]:
                yield {**first, name: value}


def find_axes(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Axis]]:
    """Yield every axis of a section with its dotted name."""
    for key, value in values.items():
        if not isinstance(value, Mapping):
            continue
        name = f"{prefix}{key}"
        if len(value) == 1 and (kind := next(iter(value))) in AXIS_KINDS:
            yield name, _axis(f"search.{name}", kind, value[kind])
        else:
            yield from find_axes(value, f"{name}.")


def _axis(where: str, kind: str, values: object) -> Axis:
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"{where}.{kind}: must be a list with at least one value.")
    if kind in ("uniform", "loguniform"):
        try:
            low, high = (float(value) for value in values)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}.{kind}: must be two numbers [low, high].") from error
        if not low < high or (kind == "loguniform" and low <= 0):
            above = "0 < low < high" if kind == "loguniform" else "low < high"
            raise ConfigError(f"{where}.{kind}: needs {above}, not {list(values)}.")
        return Axis(kind, (low, high))
    return Axis(kind, tuple(values))


def fill(values: Mapping[str, Any], setting: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Replace every axis by the setting's value."""
    filled: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in setting:
            filled[key] = setting[name]
        elif isinstance(value, Mapping):
            filled[key] = fill(value, setting, f"{name}.")
        else:
            filled[key] = value
    return filled


def write_out(
    given: Mapping[str, Any], complete: Mapping[str, Any], axes: Mapping[str, Axis], prefix: str
) -> dict[str, Any]:
    """Complete what is given, in its order: the order of the axes names the trials."""
    written: dict[str, Any] = {}
    for key, value in given.items():
        name = f"{prefix}{key}"
        if name in axes:
            written[key] = value
        elif isinstance(complete[key], Mapping):
            # a name, or another short form, gives no value of the section that it stands for
            inner = value if isinstance(value, Mapping) else {}
            written[key] = write_out(inner, complete[key], axes, f"{name}.")
        else:
            written[key] = complete[key]
    for key, value in complete.items():
        if key not in given and FOLLOWERS.get(f"{prefix}{key}") not in axes:
            written[key] = value
    return written
