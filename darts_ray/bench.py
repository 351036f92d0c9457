"""Step time, memory and projected cost of a configured search on this machine.

Every variant runs in a process of its own, so that its peak memory is its own and one variant's
caches do not help the next. Images or tokens are random: a step costs the same for any values.
"""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import (
    ConvSupernetConfig,
    RecurrentSupernetConfig,
    SearchConfig,
    StudyConfig,
)
from darts_ray.data import ImageInfo, TextInfo, open_data
from darts_ray.errors import DartsError, ResourceError
from darts_ray.runtime.device import resolve_device
from darts_ray.runtime.memory import keep_freed_memory, peak_memory_bytes
from darts_ray.runtime.packing import packing_advice
from darts_ray.runtime.randomness import seed_everything
from darts_ray.search import BilevelStep
from darts_ray.search.build import build_supernet
from darts_ray.search.step.step_graph import StepGraph

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class StepCost:
    """What one variant of a search costs.

    Attributes:
        variant: the options that differ from the configuration, or `as configured`.
        order: `first` or `unrolled`.
        device: name of the processor.
        step_seconds: median over the measured steps.
        samples_per_second: images (or tokens) of the training stream per second.
        peak_memory_bytes: peak of the process (CPU) or of allocated GPU memory.
        search_hours: the configured epochs of one search.
        error: why the variant did not run; its other numbers are then 0.
    """

    variant: str
    order: str
    device: str
    step_seconds: float
    samples_per_second: float
    peak_memory_bytes: int
    search_hours: float
    error: str | None = None


@dataclass(frozen=True)
class BenchReport:
    """All variants of one configuration and what they mean for the study.

    Attributes:
        costs: the configured options first, for both orders, then single changes to them.
        advice: which option is worth turning on and, on a GPU, how many searches should share it.
        num_searches: search trials of the study.
        study_search_hours: device-hours of all its searches, one after the other.
    """

    costs: tuple[StepCost, ...]
    advice: str
    num_searches: int
    study_search_hours: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def steps_per_epoch(config: SearchConfig, info: ImageInfo | TextInfo) -> int:
    """Return the weight updates of one search epoch."""
    if isinstance(info, ImageInfo):
        # Integer part as in the split; the last batch of an epoch may be smaller, but a single
        # image, and what would be compiled anew, is left out.
        num = int(config.train_portion * info.num_train)
        steps, rest = divmod(num, config.batch_size)
        steps += rest > 1 and not config.compile
    else:
        assert isinstance(config.network, RecurrentSupernetConfig)
        steps = max(1, info.num_train // config.batch_size // config.network.bptt)
    return min(steps, config.max_steps) if config.max_steps else steps


def measure_step(
    config: SearchConfig, info: ImageInfo | TextInfo, *, steps: int = 5, warmup: int = 2
) -> StepCost:
    """Time bilevel steps of one search in this process.

    Args:
        config: the search; its device, precision and order are used.
        info: what the data looks like.
        steps: measured steps, of which the median counts.
        warmup: steps before them.

    Raises:
        ResourceError: the device is not there.
    """
    device = resolve_device(config.device)
    seed_everything(config.seed)
    supernet = build_supernet(config, info).to(device)
    step = BilevelStep(
        supernet, config.optim, config.method, precision=config.precision, graphs=config.graphs
    )
    if config.graphs:
        warmup += StepGraph.NUM_NORMAL
    batches = _random_batches(config, info, device)
    seconds = []
    for index in range(warmup + steps):
        train, valid = next(batches), next(batches)
        started = time.perf_counter()
        step.step(train, valid)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if index >= warmup:
            seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    samples = config.batch_size
    if isinstance(config.network, RecurrentSupernetConfig):
        samples *= config.network.bptt
    hours = median * steps_per_epoch(config, info) * config.total_epochs / 3600
    return StepCost(
        variant="as configured",
        order=config.optim.order,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        step_seconds=median,
        samples_per_second=samples / median,
        peak_memory_bytes=peak_memory_bytes(device),
        search_hours=hours,
    )


def bench(
    study: StudyConfig,
    *,
    steps: int = 5,
    warmup: int = 2,
    variants: bool = True,
    on_cost: Callable[[StepCost], None] | None = None,
) -> BenchReport:
    """Measure a study's search, first order and unrolled, and single changes to its options.

    Args:
        study: needs a search section; the first value of every axis is taken.
        steps: measured steps per variant.
        warmup: steps before them.
        variants: also try the other precision and (on GPUs) torch.compile and CUDA graphs.
        on_cost: called after each variant.

    Raises:
        DataError: the data cannot be opened.
        ResourceError: the configured options themselves do not run here.
    """
    axes = study.search_axes()
    config = study.search_config({name: axis.values[0] for name, axis in axes.items()}, 0)
    info = open_data(config.data).info
    costs: list[StepCost] = []
    for variant, changes in _variants(config) if variants else [("as configured", {})]:
        for order in ("first", "unrolled"):
            changed = _with(config, {**changes, "optim.order": order})
            cost = _in_own_process(variant, changed, info, steps, warmup)
            if cost.error is not None and variant == "as configured":
                raise ResourceError(f"The configured search does not run here: {cost.error}")
            costs.append(cost)
            if on_cost is not None:
                on_cost(cost)
    num_settings = study.tune.num_samples
    for axis in axes.values():
        num_settings *= len(axis.values) if axis.kind == "grid" else 1
    orders = axes["optim.order"].values if "optim.order" in axes else (config.optim.order,)
    hours = {cost.order: cost.search_hours for cost in costs if cost.variant == "as configured"}
    mean_hours = statistics.mean(hours[order] for order in orders)
    num_searches = num_settings * len(study.seeds)
    advice = _advice(costs)
    device = resolve_device(config.device)
    if variants and device.type == "cuda":
        one = next(cost for cost in costs if cost.order == config.optim.order)
        larger = _with(config, {"batch_size": 2 * config.batch_size})
        doubled = _in_own_process("twice the batch", larger, info, steps, warmup)
        seconds = doubled.step_seconds or 2 * one.step_seconds  # it does not fit: one fills it
        advice += " " + packing_advice(one.peak_memory_bytes, one.step_seconds, seconds, device)
    return BenchReport(tuple(costs), advice, num_searches, mean_hours * num_searches)


def _variants(config: SearchConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "as configured", {}
    other = "float32" if config.precision == "bfloat16" else "bfloat16"
    yield f"precision={other}", {"precision": other}
    if resolve_device(config.device).type == "cuda":  # on CPUs compiling takes many minutes
        yield f"compile={str(not config.compile).lower()}", {"compile": not config.compile}
        if isinstance(config.network, ConvSupernetConfig):
            yield f"graphs={str(not config.graphs).lower()}", {"graphs": not config.graphs}


def _with(config: SearchConfig, changes: dict[str, Any]) -> SearchConfig:
    values = config.model_dump()
    for name, value in changes.items():
        section, _, key = name.rpartition(".")
        (values[section] if section else values)[key] = value
    return SearchConfig.model_validate(values)


def _in_own_process(
    variant: str, config: SearchConfig, info: ImageInfo | TextInfo, steps: int, warmup: int
) -> StepCost:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    arguments = (sender, config, info, steps, warmup, torch.get_num_threads())
    process = context.Process(target=_measure_and_send, args=arguments)
    process.start()
    sender.close()
    try:
        outcome = receiver.recv()
    except EOFError:
        outcome = None
    process.join()
    if outcome is None:
        outcome = _cause_of_death(process.exitcode)
    if isinstance(outcome, StepCost):
        return StepCost(**{**asdict(outcome), "variant": variant})
    return StepCost(variant, config.optim.order, config.device, 0.0, 0.0, 0, 0.0, str(outcome))


def _cause_of_death(exit_code: int | None) -> str:
    """Say how a process ended that sent nothing; negative exit codes are signals."""
    if exit_code is None or exit_code >= 0:
        return f"the process ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    cause = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"the process was killed by {name}{cause}"


def _measure_and_send(
    sender: Any,
    config: SearchConfig,
    info: ImageInfo | TextInfo,
    steps: int,
    warmup: int,
    num_threads: int,
) -> None:
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    try:
        sender.send(measure_step(config, info, steps=steps, warmup=warmup))
    except (DartsError, RuntimeError, MemoryError) as error:
        sender.send(f"{type(error).__name__}: {error}")


def _random_batches(
    config: SearchConfig, info: ImageInfo | TextInfo, device: torch.device
) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(config.seed)
    while True:
        if isinstance(info, ImageInfo):
            shape = (config.batch_size, info.channels, *info.image_size)
            images = torch.randn(shape, generator=generator).to(device)
            targets = torch.randint(info.num_classes, (config.batch_size,), generator=generator)
            yield images, targets.to(device)
        else:
            assert isinstance(config.network, RecurrentSupernetConfig)
            length = config.network.bptt + 1
            tokens = torch.randint(
                info.vocab_size, (length, config.batch_size), generator=generator
            ).to(device)
            yield tokens[:-1], tokens[1:]


def _advice(costs: list[StepCost]) -> str:
    """Say which single change saves more than a tenth of the step, weakest claims left out."""
    base = {cost.order: cost.step_seconds for cost in costs if cost.variant == "as configured"}
    gains = []
    for cost in costs:
        if cost.error is None and cost.variant != "as configured":
            ratio = base[cost.order] / cost.step_seconds
            if ratio > 1.1:
                gains.append((ratio, f"{cost.variant} ({cost.order}: {ratio:.2f}x faster)"))
    if not gains:
        return "The configured options are the fastest of those tried."
    return "Worth turning on: " + ", ".join(text for _, text in sorted(gains, reverse=True)) + "."
