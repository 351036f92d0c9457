"""The axes of a study as Tune search spaces, and the schedulers and searchers with short names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray import tune
from ray.tune.schedulers import (
    FIFOScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import Searcher

from darts_ray.config import Axis, StudyConfig
from darts_ray.config.sections import MUTABLE
from darts_ray.errors import ConfigError
from darts_ray.tune.scheduling.rungs import RememberingASHA


def axes_to_domains(axes: Mapping[str, Axis], *, grid_as_choice: bool = False) -> dict[str, Any]:
    """Return a Tune domain per axis, by dotted name, such as `{"optim.xi": loguniform(...)}`.

    Args:
        axes: what `StudyConfig.search_axes` returned.
        grid_as_choice: searchers draw from a grid's values, as they cannot run all of them.
    """
    make = {
        "grid": tune.choice if grid_as_choice else tune.grid_search,
        "choice": tune.choice,
        "uniform": lambda bounds: tune.uniform(*bounds),
        "loguniform": lambda bounds: tune.loguniform(*bounds),
    }
    return {name: make[axis.kind](list(axis.values)) for name, axis in axes.items()}


def objective(study: StudyConfig) -> tuple[str, str]:
    """Return the metric that schedulers and searchers look at, and `max` or `min`."""
    text = study.data.is_text
    return ("validation_perplexity", "min") if text else ("validation_accuracy", "max")


def make_scheduler(
    study: StudyConfig,
    epochs: int,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> TrialScheduler:
    """Return the scheduler of the search stage.

    Args:
        study: names it, its axes and its intervals.
        epochs: of one trial; ASHA's own default would cut trials at 100.
        histories: metrics per epoch that trials have from before a resume, by trial.
    """
    metric, mode = objective(study)
    if study.tune.scheduler == "asha":
        grace = min(study.tune.grace_period, epochs)
        return RememberingASHA(
            histories=histories or {},
            metric=metric,
            mode=mode,
            max_t=epochs,
            grace_period=grace,
        )
    if study.tune.scheduler == "fifo":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return PopulationBasedTraining(
        metric=metric,
        mode=mode,
        time_attr="training_iteration",
        perturbation_interval=study.tune.perturbation_interval,
        hyperparam_mutations=mutations(study),
        custom_explore_fn=keep_schedule_valid,
    )


def mutations(study: StudyConfig) -> dict[str, Any]:
    """Return what population based training may change and the values to draw from, nested."""
    axes = {name: axis for name, axis in study.search_axes().items() if name in MUTABLE}
    domains = axes_to_domains(axes, grid_as_choice=True)
    return {
        "optim": {
            # why: PBT steps to a listed value's neighbour, but cannot multiply a choice
            name.removeprefix("optim."): list(axes[name].values)
            if axes[name].kind in ("grid", "choice")
            else domain
            for name, domain in domains.items()
        }
    }


def make_searcher(study: StudyConfig) -> Searcher | None:
    """Return Optuna over the study's axes, seeded with the study's first seed, or None.

    Raises:
        ConfigError: Optuna is not installed.
    """
    if study.tune.searcher == "none":
        return None
    axes = study.search_axes()
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError as error:
        raise ConfigError(
            "tune.searcher: optuna is not installed; run pip install 'darts_ray[optuna]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    metric, mode = objective(study)
    space = OptunaSearch.convert_search_space(axes_to_domains(axes, grid_as_choice=True))
    return OptunaSearch(space=space, metric=metric, mode=mode, seed=study.seeds[0])


def set_dotted(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested configuration with some dotted names replaced."""
    changed = dict(config)
    for name, value in values.items():
        key, _, rest = name.partition(".")
        changed[key] = set_dotted(changed.get(key, {}), {rest: value}) if rest else value
    return changed


def get_dotted(config: Mapping[str, Any], name: str) -> Any:
    """Return a nested configuration's value by dotted name."""
    key, _, rest = name.partition(".")
    return get_dotted(config[key], rest) if rest else config[key]


def keep_schedule_valid(config: dict[str, Any]) -> dict[str, Any]:
    """Lower the schedule's end where a chosen learning rate fell below it."""
    optim = config["optim"]
    if "weight_lr" in optim and "weight_lr_min" in optim:
        lower = min(optim["weight_lr_min"], optim["weight_lr"])
        return {**config, "optim": {**optim, "weight_lr_min": lower}}
    return config
