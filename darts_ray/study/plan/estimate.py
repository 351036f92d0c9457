"""What a study will run: settings x seeds as trials, with resources and estimated time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from darts_ray.config import DataConfig, ResourcesSection, StudyConfig
from darts_ray.data import ImageData, ImageInfo, TextData, TextInfo, open_data
from darts_ray.errors import DataError
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import resolve_paths
from darts_ray.study.plan.ineffective import ineffective_in_study
from darts_ray.study.plan.probe import (
    TrialCost,
    check_fits,
    distinct_searches,
    distinct_trainings,
    kind_of,
    search_cost,
    training_cost,
)
from darts_ray.study.plan.settings import baseline_setting, settings_of
from darts_ray.study.plan.timing import crowding, fixed_seconds, stage_seconds
from darts_ray.study.plan.truth import check_table, transfers


@dataclass(frozen=True)
class StagePlan:
    """One stage's trials.

    Attributes:
        stage: `search`, `select` or `retrain`.
        num_trials: trials at most (select, retrain: fewer when searches agree on a cell).
        concurrent: trials side by side on the resources that Ray will find.
        epochs: per trial.
        hours: estimated wall time of the stage; None when no trial fits this machine.
        trial_hours: estimated time of all its trials, one after the other.
        storage_bytes: estimated size of its checkpoints.
    """

    stage: str
    num_trials: int
    concurrent: int
    epochs: int
    hours: float | None
    trial_hours: float
    storage_bytes: int


@dataclass(frozen=True)
class StudyPlan:
    """What a study will run, before anything is started."""

    folder: str
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    stages: tuple[StagePlan, ...]
    cpus_per_trial: float
    gpus_per_trial: float
    fixed_hours: float
    timed_on_gpu: bool
    notes: tuple[str, ...]

    @property
    def hours(self) -> float | None:
        """Estimated wall time of all stages, of starting Ray and of what is written at the end."""
        hours = [self.fixed_hours, *(stage.hours for stage in self.stages)]
        return None if None in hours else sum(value for value in hours if value is not None)

    @property
    def gpu_hours(self) -> float | None:
        """Estimated GPU-hours; 0 when trials run on CPUs, None where no GPU could be timed."""
        if self.gpus_per_trial and not self.timed_on_gpu:
            return None
        return self.gpus_per_trial * sum(stage.trial_hours for stage in self.stages)


def plan_study(config: StudyConfig) -> StudyPlan:
    """Return the trials, resources, estimated time and storage without running anything.

    Times are measured on this machine: a step of every kind of trial, times the steps; to them
    comes what starting costs. Nothing is downloaded.

    Raises:
        ConfigError: a network does not fit the data, options contradict each other, a scheduler or
            searcher cannot be made, or `benchmark.table` lacks something.
        DataError: the data cannot be opened, or a batch does not fit into it.
    """
    config = resolve_paths(config)
    baseline_setting(config)
    check_named_classes(config)
    check_table(config)
    data = _open_here(config.data)
    check_fits(config, data)
    settings = settings_of(config) if config.search is not None else []
    chosen = config.tune.searcher != "none"
    fixed = fixed_seconds(tracks=config.tracking.enabled, exports=config.export is not None)
    with _trial_threads(config):
        stages = [_plan_stage(config, *stage) for stage in _costs(config, data.info)]
    return StudyPlan(
        folder=StudyFolder.of(config).uri,
        settings=() if chosen else tuple(setting.text for setting in settings),
        seeds=config.seeds if settings else (),
        stages=tuple(stages),
        cpus_per_trial=config.resources.cpus_per_trial,
        gpus_per_trial=config.resources.gpus_per_trial,
        fixed_hours=fixed / 3600,
        timed_on_gpu=torch.cuda.is_available(),
        notes=tuple(_notes(config)),
    )


def check_named_classes(config: StudyConfig) -> None:
    """Insist that a scheduler and a searcher that are named by a dotted path can be made.

    Raises:
        ConfigError: one cannot; the message says why.
    """
    if isinstance(config.tune.scheduler, str) and isinstance(config.tune.searcher, str):
        return
    # why here: it imports Ray, which takes seconds that other plans need not spend
    from darts_ray.tune.scheduling.given import check_scheduling

    check_scheduling(config)


def num_trials(config: StudyConfig) -> dict[str, int]:
    """Return the trials of each stage that the study has; of select and retrain, those at most."""
    counts = {}
    if config.search is not None:
        counts["search"] = len(settings_of(config)) * len(config.seeds)
    if config.select is not None:
        counts["select"] = counts["search"] * len(config.select.seeds)
    if config.retrain is not None:
        cells = num_retrained(config, counts.get("search", 0))
        counts["retrain"] = cells * len(config.retrain.seeds)
    return counts


def num_retrained(config: StudyConfig, num_cells: int) -> int:
    """Return how many of so many distinct cells are trained at full size."""
    assert config.retrain is not None
    which = config.retrain.cells
    if which == "winner":
        return 1
    return num_cells if which == "each" else min(which.top, num_cells)


def concurrent_trials(
    resources: ResourcesSection, num_cpus: int, num_gpus: int, workers: int = 1
) -> int:
    """Return how many trials run side by side on so many CPUs and GPUs; 0: not one fits.

    Args:
        resources: of each worker.
        num_cpus: that there are.
        num_gpus: that there are.
        workers: of each trial.
    """
    slots = math.floor(num_cpus / resources.cpus_per_trial / workers)
    if resources.gpus_per_trial:
        # why: a fraction never spans two GPUs
        slots = min(slots, num_gpus * math.floor(1 / resources.gpus_per_trial) // workers)
    return min(slots, resources.max_concurrent or slots)


def _costs(
    config: StudyConfig, info: ImageInfo | TextInfo
) -> Iterator[tuple[str, int, list[TrialCost]]]:
    """Yield each stage's epochs and the costs of its trials, in the order in which they start."""
    numbers = num_trials(config)
    if config.search is not None:
        searches = distinct_searches(config)
        costs = {kind: search_cost(search, info) for kind, search in searches.items()}
        kinds = [kind_of(config, setting) for setting in settings_of(config)]
        epochs = max(search.total_epochs for search in searches.values())
        yield "search", epochs, [costs[kind] for kind in kinds for _ in config.seeds]
    for stage, training in distinct_trainings(config).items():
        yield stage, training.epochs, [training_cost(training, info)] * numbers[stage]


def _open_here(data: DataConfig) -> ImageData | TextData:
    """Open data that is here already."""
    try:
        return open_data(data.model_copy(update={"download": False}))
    except DataError as error:
        if not data.download:
            raise
        raise DataError(
            f"{error} A plan downloads nothing: the study itself fetches the data when it starts."
        ) from error


def _plan_stage(config: StudyConfig, stage: str, epochs: int, costs: list[TrialCost]) -> StagePlan:
    number = len(costs)
    resources, workers = config.resources, config.resources.workers_in(stage)
    slots = concurrent_trials(resources, _num_cpus(), torch.cuda.device_count(), workers=workers)
    concurrent = min(number, slots)
    seconds = None
    if concurrent:
        crowded = crowding(resources, concurrent, workers, _num_cpus())
        trials = [cost.seconds / workers for cost in costs]
        seconds = stage_seconds(trials, epochs, concurrent, crowded)
    size = max(cost.checkpoint_bytes for cost in costs)
    return StagePlan(
        stage=stage,
        num_trials=number,
        concurrent=concurrent,
        epochs=epochs,
        hours=None if seconds is None else seconds / 3600,
        trial_hours=sum(cost.seconds for cost in costs) / 3600,
        storage_bytes=number * config.tune.keep_checkpoints * size,
    )


def _notes(config: StudyConfig) -> Iterator[str]:
    yield (
        "Times are those of a step timed on this machine, times the number of steps, and what"
        " starting processes costs; on CPUs small batches are timed and prolonged to the"
        " configured one."
    )
    if config.resources.address is not None:
        yield (
            f"The study will run on the Ray cluster {config.resources.address}, which may be"
            " faster and larger; nothing has been asked of it."
        )
    elif not concurrent_trials(
        config.resources,
        _num_cpus(),
        torch.cuda.device_count(),
        workers=config.resources.workers_per_trial,
    ):
        yield (
            f"This machine ({_num_cpus()} CPUs, {torch.cuda.device_count()} GPUs) cannot run a"
            " trial of this size: lower resources.cpus_per_trial or gpus_per_trial, or use a"
            " cluster."
        )
    if (workers := config.resources.workers_per_trial) > 1:
        yield (
            f"select and retrain train each network with {workers} workers, each of which gets the"
            f" CPUs and GPUs of a trial; their times are those of one, divided by {workers}, and"
            " leave out what exchanging gradients costs."
        )
    if 0 < config.resources.gpus_per_trial < 1:
        sharing = math.floor(1 / config.resources.gpus_per_trial)
        yield (
            f"{sharing} trials share a GPU. That pays where one leaves it idle (small batches or"
            " networks): each trial takes longer, all together finish sooner; where one fills it,"
            " it only costs memory. Their memory is not kept apart: together they must fit."
            " `darts-ray bench` on the GPU says how many should share it."
        )
    if config.resources.gpus_per_trial and not torch.cuda.is_available():
        yield "GPU-hours are unknown without a GPU: run `darts-ray bench` on a machine with one."
    for line in [*ineffective_in_study(config), *transfers(config)]:
        yield f"Warning: {line}."
    if config.tune.searcher != "none":
        yield (
            f"{config.tune.searcher_name} chooses the {len(settings_of(config))} settings on the"
            " way; they are not known yet. Every seed runs each of them."
        )
    if config.tune.scheduler != "fifo":
        yield (
            f"{config.tune.scheduler_name} decides which searches go on; the times are those of"
            " searches that all run to their end."
        )
    if config.select is not None:
        yield "Select trains each distinct cell once; searches that agree make it shorter."
    if config.retrain is not None and config.retrain.cells == "each":
        yield (
            "Retrain trains each distinct cell once per seed; searches that agree make it shorter."
            " The test set is read once per training."
        )


def _num_cpus() -> int:
    """Return the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _trial_threads(config: StudyConfig) -> Iterator[None]:
    """Time steps with as many threads as a trial will have."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, int(config.resources.cpus_per_trial))))
    try:
        yield
    finally:
        torch.set_num_threads(before)
