"""Images: one part of the training data for the weights, the rest for the alphas."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from darts_ray.config import SearchConfig
from darts_ray.data import ImageData, ImageStream, evaluation_batches, split_indices
from darts_ray.errors import ConfigError, DataError
from darts_ray.nn import ConvSupernet
from darts_ray.nn.mixing import Mixing
from darts_ray.nn.supernet import Batch
from darts_ray.runtime.precision import autocast
from darts_ray.search.batches.stream import StepBatches, check_range


class ImageBatches:
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
    def evaluate(self, supernet: ConvSupernet, mixing: Mixing | None = None) -> dict[str, float]:
        """Return loss and accuracy (0 to 1) on all images of the alphas' part.

        No augmentation; normalised with the statistics of each batch, as the paper says
        (A.1.1): a deliberate correction of the original code, which used running ones (1).
        """
        loss_sum, correct, num = self._sums(supernet, self.evaluation_batches(), mixing)
        return {"validation_loss": loss_sum / num, "validation_accuracy": correct / num}

    @torch.no_grad()
    def score(
        self, supernet: ConvSupernet, batches: Iterable[Batch], mixing: Mixing | None
    ) -> float:
        """Return the accuracy (0 to 1) on some batches."""
        _, correct, num = self._sums(supernet, batches, mixing)
        return correct / num

    def alpha_pass(self) -> Iterator[Batch]:
        """Yield one pass of the alphas' stream; a last, smaller batch is left out."""
        for _ in range(len(self._alphas)):
            yield self._alphas.next()

    def erase(self, probability: float) -> None:
        """From now on erase a square, of `drop_path.cutout` pixels, with this probability."""
        for stream in (self._weights, self._alphas):
            stream.erase(self._config.drop_path.cutout, probability)

    def _sums(
        self, supernet: ConvSupernet, batches: Iterable[Batch], mixing: Mixing | None
    ) -> tuple[float, int, int]:
        """Return the sum of the losses, the number of correct predictions and that of images."""
        totals = torch.zeros(2, dtype=torch.float64, device=self._device)
        num = 0
        for images, targets in batches:
            with autocast(self._device, self._config.precision):
                logits = supernet(images, mixing)
            loss = F.cross_entropy(logits.float(), targets, reduction="sum")
            totals += torch.stack([loss.double(), (logits.argmax(1) == targets).sum()])
            num += len(targets)
        loss_sum, correct = totals.tolist()
        return loss_sum, int(correct), num

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of both streams."""
        return {"weights": self._weights.state_dict(), "alphas": self._alphas.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those positions."""
        self._weights.load_state_dict(state["weights"])
        self._alphas.load_state_dict(state["alphas"])

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield the images of the alphas' part, in order."""
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
    check_range("the training labels", labels, info.num_classes, "the number of classes is")
    images, _ = next(data.train.read(torch.tensor([0]), 1, device=torch.device("cpu")))
    expected = (info.channels, *info.image_size)
    # folders hold images of any size, which the augmentation crops
    if images.shape[1] != info.channels or len(images.shape) != 4:
        raise DataError(
            f"Images have the shape {tuple(images.shape[1:])}, but the dataset is described as"
            f" (channels, height, width) = {expected}."
        )
