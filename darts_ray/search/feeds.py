"""Which batches a search sees, and how its supernet is evaluated: images and text.

The rest of the search does not know the kind of data; it sees a `Feed`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from darts_ray.config import RecurrentSupernetConfig, SearchConfig
from darts_ray.data import (
    ImageData,
    ImageStream,
    TextData,
    TextStream,
    evaluation_batches,
    split_indices,
    text_batches,
)
from darts_ray.errors import ConfigError, DataError
from darts_ray.nn import ConvSupernet, RecurrentSupernet
from darts_ray.nn.supernet import Batch, State
from darts_ray.runtime.precision import autocast


@dataclass(frozen=True)
class StepBatches:
    """The batches of one step.

    Attributes:
        train: for the weights, and the virtual step.
        valid: for the alphas.
        lr_scale: factor on the scheduled learning rate; text scales with the window's length.
        samples: images or tokens in `train`.
    """

    train: Batch
    valid: Batch
    lr_scale: float
    samples: int


class Feed(Protocol):
    """Source of a search's batches."""

    def __len__(self) -> int:
        """Return the steps of an epoch; for text, were all windows of mean length."""

    def epoch(self) -> Iterator[StepBatches]:
        """Yield the batches of one epoch."""

    def evaluate(self, supernet: Any) -> dict[str, float]:
        """Return the validation metrics of a supernet in evaluation mode."""

    def probe(self) -> Batch:
        """Return one validation batch, always the same, without augmentation."""

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of the streams."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those positions."""


def open_feed(config: SearchConfig, data: ImageData | TextData, device: torch.device) -> Feed:
    """Return the feed that fits the data, after checking the data against the configuration.

    Raises:
        ConfigError: the configuration is for another kind of data.
        DataError: a split is too small for its batches, or a target is out of range.
    """
    if isinstance(data, TextData) != config.data.is_text:
        raise ConfigError(
            f"data.source: {config.data.source!r} does not describe the data that was opened"
            f" ({type(data).__name__})."
        )
    # two independent seeds; the supernet's initialisation uses config.seed itself
    seeds = [int(seed) for seed in np.random.SeedSequence(config.seed).generate_state(2)]
    if isinstance(data, TextData):
        return TextFeed(config, data, device, seeds)
    return ImageFeed(config, data, device, seeds)


class ImageFeed:
    """Images: one part of train for the weights, the rest for the alphas.

    Both streams are augmented; the alpha stream is shuffled and cycles, a deliberate correction
    of the original code, which drew a new iterator for each step (4). The parts come from a
    seeded shuffle of train, not from the file order (5).
    """

    def __init__(
        self, config: SearchConfig, data: ImageData, device: torch.device, seeds: list[int]
    ) -> None:
        if config.batch_size < 2:
            raise ConfigError(
                "batch_size: at least 2; a supernet normalises with the statistics of its batch."
            )
        _check_images(data)
        parts = split_indices(len(data.train), config.train_portion, config.data.split_seed)
        for name, indices in zip(("weights", "alphas"), parts, strict=True):
            if len(indices) < config.batch_size:
                raise DataError(
                    f"batch_size: {config.batch_size}, but only {len(indices)} of the"
                    f" {len(data.train)} training images train the {name} (train_portion:"
                    f" {config.train_portion}); lower batch_size or use more data."
                )
        self._config = config
        self._data = data
        self._device = device
        self._held_out = parts[1]
        # A single image has no batch statistics, and each size of batch is compiled anew. What a
        # pass leaves out comes in a later, reshuffled one.
        single = len(parts[0]) % config.batch_size == 1
        self._weights = self._stream(parts[0], seeds[0], drop_last=single or config.compile)
        self._alphas = self._stream(parts[1], seeds[1], drop_last=True)

    def __len__(self) -> int:
        """Return the number of steps in an epoch."""
        return min(len(self._weights), self._config.max_steps or len(self._weights))

    def epoch(self) -> Iterator[StepBatches]:
        """Yield one pass over the weights' part, each batch with the next one for the alphas."""
        for batch in islice(self._weights.epoch(), self._config.max_steps):
            yield StepBatches(batch, self._alphas.next(), 1.0, len(batch[1]))

    @torch.no_grad()
    def evaluate(self, supernet: ConvSupernet) -> dict[str, float]:
        """Return loss and accuracy (0 to 1) on all images of the alphas' part.

        No augmentation; normalised with the statistics of each batch, as the paper says
        (A.1.1): a deliberate correction of the original code, which used running ones (1).
        """
        totals = torch.zeros(2, dtype=torch.float64, device=self._device)
        for images, targets in self._evaluation_batches():
            with autocast(self._device, self._config.precision):
                logits = supernet(images)
            loss = F.cross_entropy(logits.float(), targets, reduction="sum")
            totals += torch.stack([loss.double(), (logits.argmax(1) == targets).sum()])
        loss_sum, correct = totals.tolist()
        num = len(self._held_out)
        return {"validation_loss": loss_sum / num, "validation_accuracy": correct / num}

    def probe(self) -> Batch:
        """Return the first evaluation batch."""
        return next(self._evaluation_batches())

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of both streams."""
        return {"weights": self._weights.state_dict(), "alphas": self._alphas.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those positions."""
        self._weights.load_state_dict(state["weights"])
        self._alphas.load_state_dict(state["alphas"])

    def _evaluation_batches(self) -> Iterator[Batch]:
        size = self._config.eval_batch_size or self._config.batch_size
        return evaluation_batches(
            self._data.train,
            self._held_out,
            evaluation_batch_size(len(self._held_out), size),
            info=self._data.info,
            device=self._device,
            channels_last=True,  # the supernet computes in no other layout
        )

    def _stream(self, indices: Tensor, seed: int, *, drop_last: bool) -> ImageStream:
        return ImageStream(
            self._data.train,
            indices,
            self._config.batch_size,
            info=self._data.info,
            augment=self._config.augment,
            seed=seed,
            device=self._device,
            drop_last=drop_last,
            channels_last=True,  # the supernet computes in no other layout
        )


class TextFeed:
    """Text: the training tokens for the weights, the validation tokens for the alphas."""

    def __init__(
        self, config: SearchConfig, data: TextData, device: torch.device, seeds: list[int]
    ) -> None:
        assert isinstance(config.network, RecurrentSupernetConfig)
        self._config = config
        self._data = data
        self._device = device
        self._bptt = config.network.bptt
        self._eval_batch_size = config.eval_batch_size or config.batch_size
        for name, tokens in (("training", data.train), ("validation", data.valid)):
            _check_range(f"the {name} text", tokens, data.info.vocab_size, "the vocabulary has")
        if len(data.valid) < 2 * self._eval_batch_size:
            raise DataError(
                f"eval_batch_size: {self._eval_batch_size} columns need at least two of the"
                f" {len(data.valid)} validation tokens each; lower it or use more text."
            )
        self._weights = TextStream(
            data.train,
            config.batch_size,
            bptt=self._bptt,
            seed=seeds[0],
            device=device,
            variable=True,
            short_probability=config.network.short_sequence_probability,
        )
        self._alphas = TextStream(
            data.valid,
            config.batch_size,
            bptt=self._bptt,
            seed=seeds[1],
            device=device,
            variable=False,
        )

    def __len__(self) -> int:
        """Return the number of steps in an epoch, were all windows of mean length."""
        return min(len(self._weights), self._config.max_steps or len(self._weights))

    def epoch(self) -> Iterator[StepBatches]:
        """Yield one pass over the training text; the learning rate follows the length."""
        for batch in islice(self._weights.epoch(), self._config.max_steps):
            length = len(batch[1])
            yield StepBatches(batch, self._alphas.next(), length / self._bptt, batch[1].numel())

    @torch.no_grad()
    def evaluate(self, supernet: RecurrentSupernet) -> dict[str, float]:
        """Return loss per token and perplexity on the validation text, hidden states carried.

        Deliberate correction: the sum of losses is divided by the number of scored tokens, not
        by the length of the text (10).
        """
        state: State = supernet.initial_state(self._eval_batch_size)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        num_scored = 0
        for batch in self._evaluation_batches():
            with autocast(self._device, self._config.precision):
                loss, state = supernet.stateful_loss(batch, state)
            total += loss.double() * batch[1].numel()
            num_scored += batch[1].numel()
        mean = total.item() / num_scored
        # a float holds e^709; an untrained network may be worse
        return {"validation_loss": mean, "validation_perplexity": math.exp(min(mean, 709.0))}

    def probe(self) -> Batch:
        """Return the first evaluation batch."""
        return next(self._evaluation_batches())

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of both streams."""
        return {"weights": self._weights.state_dict(), "alphas": self._alphas.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those positions."""
        self._weights.load_state_dict(state["weights"])
        self._alphas.load_state_dict(state["alphas"])

    def _evaluation_batches(self) -> Iterator[Batch]:
        return text_batches(
            self._data.valid, self._eval_batch_size, self._bptt, device=self._device
        )


def evaluation_batch_size(num: int, batch_size: int) -> int:
    """Return the size of nearly equal batches that leave no batch of a single sample.

    Batch statistics of one sample mean nothing, and of unequal batches mean different things.

    Args:
        num: samples to evaluate, at least 2.
        batch_size: samples per batch at most, or a few more where a single one would remain.
    """
    size = math.ceil(num / math.ceil(num / batch_size))
    while num % size == 1 or size == 1:
        size += 1
    return size


def _check_images(data: ImageData) -> None:
    info, labels = data.info, data.train.labels
    if not len(labels):
        raise DataError("The training split is empty; give the data some images.")
    _check_range("the training labels", labels, info.num_classes, "the number of classes is")
    images, _ = next(data.train.read(torch.tensor([0]), 1, device=torch.device("cpu")))
    expected = (info.channels, *info.image_size)
    # folders hold images of any size, which the augmentation crops
    if images.shape[1] != info.channels or len(images.shape) != 4:
        raise DataError(
            f"Images have the shape {tuple(images.shape[1:])}, but the dataset is described as"
            f" (channels, height, width) = {expected}."
        )


def _check_range(name: str, values: Tensor, num: int, what: str) -> None:
    low, high = (int(value) for value in values.aminmax())
    if low < 0 or high >= num:
        raise DataError(
            f"In {name} there are numbers from {low} to {high}, but {what} {num}; they must be"
            f" from 0 to {num - 1}."
        )
