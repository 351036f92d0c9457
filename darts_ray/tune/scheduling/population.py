"""What population based training, of any kind (PBT, PB2), may change in mid-run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.schedulers import PopulationBasedTraining

from darts_ray.config import Axis, StudyConfig
from darts_ray.config.sections import MUTABLE
from darts_ray.errors import ConfigError
from darts_ray.tune.scheduling.search_space import keep_schedule_valid, mutations


def population_values(study: StudyConfig) -> dict[str, Any]:
    """Return what population based training changes: the axes that may change in mid-run."""
    axes = {name: axis for name, axis in study.search_axes().items() if name in MUTABLE}
    if not axes:
        return {}
    bounds = {name.removeprefix("optim."): _bounds(axis) for name, axis in axes.items()}
    return {
        "hyperparam_mutations": mutations(study),
        "hyperparam_bounds": {"optim": bounds},
        "custom_explore_fn": keep_schedule_valid,
    }


def _bounds(axis: Axis) -> list[float]:
    return [min(axis.values), max(axis.values)]


def check_population(scheduler: PopulationBasedTraining) -> None:
    """Insist that only values change which a search takes over in mid-run.

    Raises:
        ConfigError: others would change, or none.
    """
    changed = set(_dotted(scheduler._hyperparam_mutations))
    wrong = sorted(changed - set(MUTABLE))
    if wrong or not changed:
        what = f"changes {', '.join(wrong)}" if wrong else "changes nothing"
        raise ConfigError(
            f"tune.scheduler: {type(scheduler).__name__} {what}; in mid-run"
            f" {', '.join(MUTABLE)} may change. Make at least one of them an axis of the search"
            " section, such as {loguniform: [0.01, 0.1]}."
        )
    if scheduler._custom_explore_fn is None:
        scheduler._custom_explore_fn = keep_schedule_valid


def _dotted(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    names = []
    for name, value in values.items():
        if isinstance(value, dict) and "grid_search" not in value:
            names += _dotted(value, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names
