"""Builds every kind of trial of a study on the driver: does it fit its data, what does it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from darts_ray.bench import measure_step, steps_per_epoch
from darts_ray.config import RecurrentNetworkConfig, RetrainConfig, SearchConfig, StudyConfig
from darts_ray.data import ImageData, ImageInfo, TextData, TextInfo, split_indices
from darts_ray.nn import RecurrentNetwork, num_weights
from darts_ray.runtime.workers import Workers
from darts_ray.search.build import build_supernet
from darts_ray.search.run import SearchRun
from darts_ray.space import Genotype, zoo
from darts_ray.study.plan.settings import Setting, searches_of
from darts_ray.train import RetrainRun, build_network
from darts_ray.train.tasks.images import check_parts

Trial = TypeVar("Trial", SearchConfig, RetrainConfig)
CPU = torch.device("cpu")
CPU_BATCHES = (8, 16)
"""On a CPU a step's time grows along a line with its batch, so two small ones are timed."""

FORWARD_PASSES = {"first": 6, "unrolled": 15}
"""What a bilevel step costs in forward passes, a backward pass being two of them: first order
computes two gradients, unrolled five (at w, at w', at both sides of w, and of the weights)."""


@dataclass(frozen=True)
class TrialCost:
    """What one trial needs; `seconds` is its expected wall time on this machine."""

    seconds: float
    checkpoint_bytes: int


def check_fits(
    config: StudyConfig, data: ImageData | TextData, stages: Collection[str] | None = None
) -> None:
    """Build the first trial of every kind and throw it away.

    Args:
        config: the study.
        data: what its trials read.
        stages: which of its stages will run; None: all.

    Raises:
        ConfigError: a network does not fit the data, or options contradict each other.
        DataError: a part of the data is smaller than a batch, or there is no test set.
    """
    searches = distinct_searches(config) if stages is None or "search" in stages else {}
    for trial in searches.values():
        # the driver may have no GPU; preflight asks whether the trials have
        SearchRun(trial.model_copy(update={"graphs": False}), data, CPU)
    for stage, training in distinct_trainings(config).items():
        if stages is None or stage in stages:
            run = RetrainRun(training, data, CPU)
            workers = config.resources.workers_in(stage)
            if isinstance(data, ImageData) and workers > 1:
                assert not isinstance(run.network, RecurrentNetwork)
                check_parts(training, data, run.network, Workers(0, workers))


def distinct_searches(config: StudyConfig) -> dict[str, SearchConfig]:
    """Return one search per kind: those of a kind differ in learning rates and the like only."""
    if config.search is None:
        return {}
    kinds: dict[str, SearchConfig] = {}
    for setting, trial in searches_of(config):
        kinds.setdefault(kind_of(config, setting), trial)
    return kinds


def kind_of(config: StudyConfig, setting: Setting) -> str:
    """Return the kind of a setting's searches, as `distinct_searches` names it."""
    trial = config.search_config(setting.values, config.seeds[0])
    return f"{trial.optim.order} {trial.model_dump_json(exclude={'optim'})}"


def distinct_trainings(config: StudyConfig) -> dict[str, RetrainConfig]:
    """Return one training per stage, `select` and `retrain`, of the given or a published cell."""
    genotype = example_genotype(config).to_dict()
    found: dict[str, RetrainConfig] = {}
    if config.select is not None:
        found["select"] = config.select_config(genotype, config.select.seeds[0])
    if config.retrain is not None:
        given = config.retrain.genotype
        found["retrain"] = config.retrain_config(given or genotype, config.retrain.seeds[0])
    return found


def example_genotype(config: StudyConfig) -> Genotype:
    """Return a published cell of the study's kind, for sizes before anything is derived."""
    return zoo["RECURRENT_DARTS_V2" if config.data.is_text else "DARTS_V2"]


def num_parameters(config: StudyConfig, genotype: Genotype, info: ImageInfo | TextInfo) -> int:
    """Return the weights of the network that a cell will be deployed as.

    Its size is that of the retrain section, without one that of the select section, else the
    paper's. Nothing is allocated.
    """
    values = genotype.to_dict()
    if config.retrain is not None:
        trial = config.retrain_config(values, 0)
    elif config.select is not None:
        trial = config.select_config(values, 0)
    else:
        paper: dict[str, object] = {"data": config.data, "genotype": values}
        if not config.data.is_text:
            # not counted anyway, and the paper's does not fit every image that a search takes
            paper["network"] = {"auxiliary": False}
        trial = RetrainConfig.model_validate(paper)
    with torch.device("meta"):
        return num_weights(build_network(trial, info))


def search_cost(config: SearchConfig, info: ImageInfo | TextInfo) -> TrialCost:
    """Time bilevel steps of one search, and count its evaluations in their terms."""
    if not _on_gpu(config):
        config = config.model_copy(update={"graphs": False})
    step = _step_seconds(
        config, lambda timed: measure_step(timed, info, steps=2, warmup=1).step_seconds
    )
    steps: float = steps_per_epoch(config, info)
    if isinstance(info, ImageInfo):
        held_out = (1 - config.train_portion) * info.num_train / config.batch_size
        steps += held_out / FORWARD_PASSES[config.optim.order]
    seconds = step * steps * config.total_epochs
    with torch.device("meta"):
        weights = num_weights(build_supernet(config, info))
    return TrialCost(seconds, _checkpoint_bytes(weights))


def training_cost(config: RetrainConfig, info: ImageInfo | TextInfo) -> TrialCost:
    """Time training steps of one derived network, and count its validations in their terms."""
    step = _step_seconds(config, lambda timed: _time_training(timed, info))
    steps: float = _training_steps(config, info)
    if isinstance(info, ImageInfo) and config.train_portion is not None:
        steps += (1 - config.train_portion) * info.num_train / config.batch_size / 3
    seconds = step * steps * config.epochs
    with torch.device("meta"):
        weights = num_weights(build_network(config, info))
    return TrialCost(seconds, _checkpoint_bytes(weights))


def _step_seconds(config: Trial, measure: Callable[[Trial], float]) -> float:
    """Return the time of one step, on a CPU prolonged from those of two small batches."""
    small, large = CPU_BATCHES
    if _on_gpu(config) or config.batch_size <= large:
        return measure(config)
    at_small, at_large = (
        measure(config.model_copy(update={"batch_size": size})) for size in CPU_BATCHES
    )
    per_sample = max(0.0, at_large - at_small) / (large - small)
    return at_large + per_sample * (config.batch_size - large)


def _time_training(config: RetrainConfig, info: ImageInfo | TextInfo) -> float:
    device = torch.device("cuda" if _on_gpu(config) else "cpu")
    network = build_network(config, info).to(device)
    batch = _random_inputs(config, info, device)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        losses = [output.float().square().mean() for output in _outputs(network, batch)]
        torch.autograd.backward(losses)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def _on_gpu(config: SearchConfig | RetrainConfig) -> bool:
    return config.device != "cpu" and torch.cuda.is_available()


def _training_steps(config: RetrainConfig, info: ImageInfo | TextInfo) -> int:
    if isinstance(info, ImageInfo):
        num = info.num_train
        if config.train_portion is not None:
            num = len(split_indices(num, config.train_portion, 0)[0])
        steps = -(-num // config.batch_size)
    else:
        assert isinstance(config.network, RecurrentNetworkConfig)
        steps = max(1, info.num_train // config.batch_size // config.network.bptt)
    return min(steps, config.max_steps or steps)


def _random_inputs(
    config: RetrainConfig, info: ImageInfo | TextInfo, device: torch.device
) -> Tensor:
    if isinstance(info, ImageInfo):
        return torch.randn(config.batch_size, info.channels, *info.image_size, device=device)
    assert isinstance(config.network, RecurrentNetworkConfig)
    shape = (config.network.bptt, config.batch_size)
    return torch.randint(info.vocab_size, shape, device=device)


def _outputs(network: torch.nn.Module, batch: Tensor) -> list[Tensor]:
    """Return what a training has a loss of: logits, and those of an auxiliary head beside them."""
    if isinstance(network, RecurrentNetwork):
        return [network(batch, network.init_hidden(batch.shape[1]))[0]]
    output: Tensor | tuple[Tensor, Tensor] = network(batch)
    return [output] if isinstance(output, Tensor) else list(output)


def _checkpoint_bytes(weights: int) -> int:
    """Weights and momentum, four bytes each; alphas and generators are small."""
    return 8 * weights
