"""Scores of a trained network: loss with top-1 and top-5 accuracy, or perplexity."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.config import RetrainConfig
from darts_ray.config.retrain import RecurrentNetworkConfig
from darts_ray.config.search import Precision
from darts_ray.data import ImageData, TextData, evaluation_batches, text_batches
from darts_ray.errors import DataError
from darts_ray.nn import Batch, RecurrentNetwork
from darts_ray.runtime.device import image_layout
from darts_ray.runtime.losses import LossTrace
from darts_ray.runtime.precision import autocast
from darts_ray.runtime.workers import ALONE, Workers
from darts_ray.train.predictions import Predictions


@dataclass(frozen=True)
class EvaluationSettings:
    """How networks are evaluated; none of it should change a score by more than rounding.

    Attributes:
        batch_size: images, or columns of a text read side by side. Each column starts from a
            zero hidden state, so on text a smaller batch scores slightly better.
        bptt: text only: tokens per forward pass; hidden states are carried between passes.
        precision: `bfloat16` evaluates under autocast.
        channels_last: memory layout of images, see `image_layout`.
    """

    device: torch.device
    batch_size: int
    bptt: int
    precision: Precision
    channels_last: bool

    @classmethod
    def of_validation(cls, config: RetrainConfig, device: torch.device) -> EvaluationSettings:
        """Return what a configuration says of evaluations on held-out data."""
        network = config.network
        layout = image_layout(config.channels_last, device, config.precision)
        return cls(
            device=device,
            batch_size=config.eval_batch_size or config.batch_size,
            bptt=network.bptt if isinstance(network, RecurrentNetworkConfig) else 0,
            precision=config.precision,
            channels_last=layout == torch.channels_last,
        )

    @classmethod
    def of_test(
        cls, config: RetrainConfig, device: torch.device, batch_size: int | None = None
    ) -> EvaluationSettings:
        """Return what a configuration says of tests; a batch size given here takes precedence."""
        settings = cls.of_validation(config, device)
        size = batch_size or config.test_batch_size or settings.batch_size
        return replace(settings, batch_size=size)


def evaluate_network(
    network: nn.Module,
    config: RetrainConfig,
    data: ImageData | TextData,
    *,
    device: torch.device,
    batch_size: int | None = None,
    predictions: Predictions | None = None,
) -> dict[str, float]:
    """Open the test set and score a network on it.

    It may be any derived network, such as one that `build_network` made and
    `darts_ray.interop.load_original` filled with the original authors' weights.

    Args:
        network: on `device`.
        config: gives batch size, sequence length, precision and memory layout.
        data: whose test set; `data.info` gives the normalisation.
        device: where to run.
        batch_size: default: the configuration's for tests.
        predictions: of images; receives what is predicted.

    Returns:
        test_loss, test_accuracy and test_top5 (0..1), or test_loss and test_perplexity.

    Raises:
        DataError: there is no test set, or it does not fit.
        NonFiniteLossError: the test loss is NaN or infinite.
    """
    settings = EvaluationSettings.of_test(config, device, batch_size)
    trace = LossTrace("test loss", 0)
    if isinstance(data, TextData):
        return score_text(network, data.open_test(), settings, "test", trace)
    split = data.open_test()
    if len(split) == 0:
        raise DataError("The test set is empty; there is nothing to evaluate.")
    batches = evaluation_batches(
        split,
        None,
        settings.batch_size,
        info=data.info,
        device=settings.device,
        channels_last=settings.channels_last,
        on_pixels=None if predictions is None else predictions.add_pixels,
    )
    return score_images(network, batches, settings, "test", trace, predictions=predictions)


@torch.no_grad()
def score_images(
    network: nn.Module,
    batches: Iterable[Batch],
    settings: EvaluationSettings,
    part: str,
    trace: LossTrace,
    workers: Workers = ALONE,
    predictions: Predictions | None = None,
) -> dict[str, float]:
    """Score a conv network with its running batch norm statistics.

    Args:
        network: images to logits; it is left in evaluation mode.
        batches: images (batch, channels, height, width) and labels (batch,).
        settings: device and precision.
        part: prefix of the metrics' names, such as `validation`.
        trace: collects the losses, of the same workers.
        workers: who scores together, each its own rows of the same batches.
        predictions: receives what is predicted, of this worker's rows.

    Returns:
        `{part}_loss`, `{part}_accuracy`, `{part}_top5`; with fewer than five classes top 5 is
        always 1.

    Raises:
        NonFiniteLossError: the loss is NaN or infinite.
    """
    network.eval()
    hits = torch.zeros(2, dtype=torch.int64, device=settings.device)  # top 1, top 5
    num = torch.zeros((), dtype=torch.int64, device=settings.device)
    for images, targets in batches:
        if not len(targets):  # a last batch with fewer images than workers
            trace.add(torch.zeros((), device=settings.device), weight=0)
            continue
        with autocast(settings.device, settings.precision):
            logits: Tensor = network(images)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        trace.add(F.cross_entropy(logits, targets), weight=len(targets))
        best = logits.topk(min(5, logits.shape[1])).indices == targets[:, None]
        hits += torch.stack([best[:, 0].sum(), best.sum()])
        num += len(targets)
        if predictions is not None:
            predictions.add(logits, targets)
    hits, num = workers.total(hits), workers.total(num)
    top1, top5 = (hits.double() / num).tolist()
    return {f"{part}_loss": trace.mean(), f"{part}_accuracy": top1, f"{part}_top5": top5}


@torch.no_grad()
def score_text(
    network: nn.Module, tokens: Tensor, settings: EvaluationSettings, part: str, trace: LossTrace
) -> dict[str, float]:
    """Score a language model; hidden states are carried through the text.

    A deliberate correction: the mean divides by the number of predicted tokens; the original
    code divided by one row more.

    Args:
        network: a recurrent network; it is left in evaluation mode.
        tokens: (num,).
        settings: device, batch size, window length and precision.
        part: prefix of the metrics' names.
        trace: collects the losses.

    Returns:
        `{part}_loss` in nats per token and `{part}_perplexity`, its exponential.

    Raises:
        DataError: the text is too short for the batch size.
        NonFiniteLossError: the loss is NaN or infinite.
    """
    assert isinstance(network, RecurrentNetwork)
    network.eval()
    state = network.initial_state(settings.batch_size)
    windows = text_batches(tokens, settings.batch_size, settings.bptt, device=settings.device)
    for window in windows:
        with autocast(settings.device, settings.precision):
            loss, state = network.stateful_loss(window, state)
        trace.add(loss, weight=window[1].numel())
    mean = trace.mean()
    # exp overflows a float above 709
    return {f"{part}_loss": mean, f"{part}_perplexity": math.exp(min(mean, 700.0))}
