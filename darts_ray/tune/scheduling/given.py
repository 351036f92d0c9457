"""Schedulers and searchers of any class: named by a dotted path, or given as objects."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ray.tune.schedulers import (
    HyperBandForBOHB,
    HyperBandScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import Searcher

from darts_ray.config import StudyConfig
from darts_ray.config.sections import TuneClass
from darts_ray.errors import ConfigError
from darts_ray.tune.scheduling.population import check_population, population_values
from darts_ray.tune.scheduling.search_space import (
    axes_to_domains,
    make_scheduler,
    make_searcher,
    objective,
)

__all__ = [
    "Searcher",
    "TrialScheduler",
    "check_scheduling",
    "study_scheduler",
    "study_searcher",
    "with_objects",
]

_Part = TypeVar("_Part", TrialScheduler, Searcher)
_BASES = {
    TrialScheduler: ("tune.scheduler", "scheduler", "ray.tune.schedulers.TrialScheduler"),
    Searcher: ("tune.searcher", "search_alg", "ray.tune.search.Searcher"),
}
"""By base class: the configuration's key, the argument of `run_study`, the class in words."""


def with_objects(
    study: StudyConfig, scheduler: TrialScheduler | None, search_alg: Searcher | None
) -> StudyConfig:
    """Return the study whose configuration names the classes of the objects that it was given.

    Raises:
        ConfigError: an object is of another kind, or the configuration names one as well.
    """
    tune: dict[str, Any] = {}
    for name, base, part in (
        ("scheduler", TrialScheduler, scheduler),
        ("searcher", Searcher, search_alg),
    ):
        if part is None:
            continue
        key, argument, kind = _BASES[base]
        if not isinstance(part, base):
            raise ConfigError(f"{argument}: {type(part).__name__} is no {kind}.")
        known = getattr(study.tune, name)
        is_default = known == type(study.tune).model_fields[name].default
        if not is_default and not (isinstance(known, TuneClass) and known.python):
            raise ConfigError(
                f"{key} is in the configuration, and {argument} was given too; leave one of them"
                " out."
            )
        path = f"{type(part).__module__}.{type(part).__qualname__}".replace(".<locals>", "")
        tune[name] = TuneClass(type=path, python=True)
    return study.model_copy(update={"tune": study.tune.model_copy(update=tune)})


def check_scheduling(
    study: StudyConfig,
    scheduler: TrialScheduler | None = None,
    search_alg: Searcher | None = None,
    *,
    needs_objects: bool = False,
) -> None:
    """Make what the search stage will need, once, to see whether it can be made.

    Args:
        study: names scheduler and searcher.
        scheduler: the object that the study was given, if it was given one.
        search_alg: likewise.
        needs_objects: whether a study that is made with objects needs them now.

    Raises:
        ConfigError: a class cannot be imported, is of another kind, does not take its args, or
            does not suit the study's axes or metric; or an object is missing.
    """
    if study.search is None:
        return
    if needs_objects or search_alg is not None or not _is_python(study.tune.searcher):
        study_searcher(study, search_alg)
    if needs_objects or scheduler is not None or not _is_python(study.tune.scheduler):
        study_scheduler(study, 1, given=scheduler)


def study_scheduler(
    study: StudyConfig,
    epochs: int,
    histories: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    given: TrialScheduler | None = None,
) -> TrialScheduler:
    """Return the scheduler of a study's search stage, whatever its class.

    Args:
        study: names it, its axes and its intervals.
        epochs: of one trial.
        histories: metrics per epoch that trials have from before a resume, by trial.
        given: the object that the study was given, if it was given one.

    Raises:
        ConfigError: see `check_scheduling`.
    """
    choice = study.tune.scheduler
    if isinstance(choice, str):
        return make_scheduler(study, epochs, histories)
    metric, mode = objective(study)
    if choice.python:
        scheduler = _object(choice, TrialScheduler, given)
    else:
        found = _load(choice, TrialScheduler)
        values: dict[str, Any] = {"metric": metric, "mode": mode}
        values |= {"time_attr": "training_iteration", "max_t": epochs}
        if issubclass(found, PopulationBasedTraining):
            values |= population_values(study)
        scheduler = _make(choice, TrialScheduler, found, values)
    own_mode = getattr(scheduler, "_mode", None)
    scheduler.set_search_properties(
        None if scheduler.metric else metric, None if own_mode else mode
    )
    _check_objective(study, TrialScheduler, scheduler.metric, getattr(scheduler, "_mode", None))
    if isinstance(scheduler, PopulationBasedTraining):
        check_population(scheduler)
    fills_late = study.tune.searcher != "none" and not isinstance(scheduler, HyperBandForBOHB)
    if isinstance(scheduler, HyperBandScheduler) and fills_late:
        raise ConfigError(
            f"tune.scheduler: {type(scheduler).__name__} compares the trials of a bracket before"
            " a searcher has filled it. With tune.searcher take"
            " {type: ray.tune.schedulers.HyperBandForBOHB}, which waits."
        )
    return scheduler


def study_searcher(study: StudyConfig, given: Searcher | None = None) -> Searcher | None:
    """Return the searcher of a study's search stage, or None.

    Args:
        study: names it and its axes; the study's first seed seeds it.
        given: the object that the study was given, if it was given one.

    Raises:
        ConfigError: see `check_scheduling`.
    """
    choice = study.tune.searcher
    if isinstance(choice, str):
        return make_searcher(study)
    axes = study.search_axes()
    if not axes:
        raise ConfigError(
            f"{_BASES[Searcher][0]}: {choice.name} needs at least one axis in the search section,"
            " such as optim.xi: {loguniform: [0.001, 0.1]}."
        )
    metric, mode = objective(study)
    if choice.python:
        searcher = _object(choice, Searcher, given)
    else:
        seed = study.seeds[0]
        values = {"metric": metric, "mode": mode, "seed": seed, "random_state_seed": seed}
        searcher = _make(choice, Searcher, _load(choice, Searcher), values)
    inner: Any = searcher
    while isinstance(getattr(inner, "searcher", None), Searcher):
        inner = inner.searcher  # of a ConcurrencyLimiter, which knows no metric of its own
    try:
        searcher.set_search_properties(
            None if inner.metric else metric,
            None if inner.mode else mode,
            axes_to_domains(axes, grid_as_choice=True),
        )
    except Exception as error:  # what a searcher does not take is told in many ways
        raise ConfigError(
            f"{_BASES[Searcher][0]}: {choice.name} cannot choose from these axes: {error}"
        ) from error
    _check_objective(study, Searcher, inner.metric, inner.mode)
    return searcher


def _is_python(choice: str | TuneClass) -> bool:
    return isinstance(choice, TuneClass) and choice.python


def _object(choice: TuneClass, base: type[_Part], given: _Part | None) -> _Part:
    if given is not None:
        return given
    key, argument, _ = _BASES[base]
    raise ConfigError(
        f"{key}: this study was begun with a Python object of the class {choice.type}, which no"
        f" file can hold. Give one again: resume_study(folder, {argument}=...); a study that shall"
        f" resume from the command line names its class, {key}: {{type: ..., args: {{...}}}}."
    )


def _load(choice: TuneClass, base: type[_Part]) -> type[_Part]:
    key, _, kind = _BASES[base]
    module, _, name = choice.type.rpartition(".")
    try:
        holder = importlib.import_module(module)
    except Exception as error:  # whatever a module of the user's raises
        raise ConfigError(
            f"{key}.type: {module} cannot be imported ({type(error).__name__}: {error}); a module"
            " of your own has to be on PYTHONPATH."
        ) from error
    found = getattr(holder, name, None)
    if not inspect.isclass(found):
        close = difflib.get_close_matches(name, dir(holder), n=1)
        hint = f" Did you mean {module}.{close[0]}?" if close else ""
        raise ConfigError(f"{key}.type: {module} has no class {name!r}.{hint}")
    if not issubclass(found, base):
        raise ConfigError(f"{key}.type: {choice.type} is no {kind}.")
    return found


def _make(
    choice: TuneClass, base: type[_Part], found: type[_Part], values: Mapping[str, Any]
) -> _Part:
    """Make an object of a class; what its constructor knows of `values` is filled in."""
    key = _BASES[base][0]
    parameters = inspect.signature(found).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in choice.args:
        if name not in parameters and not takes_any:
            close = difflib.get_close_matches(name, parameters, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(
                f"{key}.args.{name}: {choice.name} does not take it.{hint} It takes:"
                f" {', '.join(parameters)}."
            )
    filled = {name: value for name, value in values.items() if name in parameters}
    try:
        return found(**{**filled, **choice.args})
    except Exception as error:  # constructors assert, too
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{key}.args: {choice.name} cannot be made: {type(error).__name__}: {reason}"
        ) from error


def _check_objective(study: StudyConfig, base: Any, metric: Any, mode: Any) -> None:
    wanted = objective(study)
    if metric not in (None, wanted[0]) or mode not in (None, wanted[1]):
        raise ConfigError(
            f"{_BASES[base][0]}: judges by {metric!r}, {mode!r}; this study's searches are judged"
            f" by {wanted[0]!r}, {wanted[1]!r}. Leave metric and mode out."
        )
