"""Training a derived conv network on images."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from darts_ray.config import RetrainConfig
from darts_ray.config.retrain import ConvNetworkConfig
from darts_ray.data import (
    ImageData,
    ImageInfo,
    ImageStream,
    evaluation_batches,
    split_indices,
)
from darts_ray.errors import ConfigError
from darts_ray.nn import Batch, ConvNetwork, ImageNetNetwork
from darts_ray.runtime.device import image_layout
from darts_ray.runtime.losses import LossTrace
from darts_ray.runtime.precision import autocast
from darts_ray.runtime.workers import ALONE, Workers
from darts_ray.train.evaluation import EvaluationSettings, score_images
from darts_ray.train.parallel.distributed import distribute
from darts_ray.train.schedules import drop_path_rate
from darts_ray.train.tasks.task import PartLoss


class ImageTask:
    """Classification with auxiliary head, drop path and label smoothing.

    With `train_portion` it trains on that share of train and validates on the rest, the same
    shares as a search with the same data and portion; without, it trains on everything.

    Args:
        config: the retraining.
        data: images; the test set is not touched here.
        network: on `device`; its memory layout is changed to the images'.
        device: where batches are made.
        workers: who trains together. Each computes with its rows of every batch; gradients and
            metrics are those of the whole batches.

    Raises:
        ConfigError: the network cannot train on batches as small as there are.
        DataError: a part is empty, or smaller than one batch.
    """

    rolls_back = False

    def __init__(
        self,
        config: RetrainConfig,
        data: ImageData,
        network: ConvNetwork | ImageNetNetwork,
        device: torch.device,
        workers: Workers = ALONE,
    ) -> None:
        assert isinstance(config.network, ConvNetworkConfig)
        layout = image_layout(config.channels_last, device, config.precision)
        self._network = network.to(memory_format=layout)
        self._config = config
        self._workers = workers
        self._sizes = config.network
        self._data = data
        self._settings = EvaluationSettings.of_validation(config, device)
        self._dtype = next(network.parameters()).dtype
        train = torch.arange(len(data.train))
        self._held_out: Tensor | None = None
        if config.train_portion is not None:
            train, self._held_out = split_indices(
                len(train), config.train_portion, config.data.split_seed
            )
        batch_size = config.batch_size * config.optim.accumulate
        self._stream = ImageStream(
            data.train,
            train,
            batch_size,
            info=data.info,
            augment=config.augment,
            seed=config.seed,
            device=device,
            drop_last=len(train) % batch_size == 1,  # batch norm cannot normalise one image
            channels_last=self._settings.channels_last,
            dtype=self._dtype,
            workers=workers,
        )
        check_parts(config, data, network, workers)
        self._parallel: DistributedDataParallel | None = None
        if workers.several:
            self._parallel = distribute(network, data.info, device)
        forward = self._parallel or network
        self._forward = torch.compile(forward) if config.compile else forward
        self._hits = torch.zeros((), dtype=torch.int64, device=device)
        self._num_images = 0  # of all workers

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        return len(self._stream)

    def start_epoch(self, epoch: int, epochs: int) -> dict[str, float]:
        """Set the drop-path rate."""
        rate = drop_path_rate(self._sizes.drop_path, epoch, epochs)
        self._network.drop_path = rate
        self._hits.zero_()
        self._num_images = 0
        return {"drop_path": rate}

    def batches(self) -> Iterator[Batch]:
        """Yield one pass over the training images, newly shuffled."""
        return self._stream.epoch()

    def size(self, batch: Batch) -> int:
        """Return the number of images of the whole batch."""
        assert self._stream.rows is not None
        return self._stream.rows.num

    def rate_factor(self, batch: Batch) -> float:
        """Return 1: the learning rate does not depend on the batch."""
        return 1.0

    def losses(self, batch: Batch) -> Iterator[PartLoss]:
        """Yield the loss of each part: cross entropy, plus the weighted auxiliary head's."""
        images, targets = batch
        num = self.size(batch)
        bounds = _part_bounds(num, self._config.batch_size)
        for first, last in pairwise(bounds):
            ours, rows = self._workers.part(first, last)
            part, labels = images[ours], targets[ours]
            self._network.rows = rows if self._workers.several else None
            with self._gradients_summed(last == num):
                with autocast(self._settings.device, self._config.precision):
                    loss, logits = self._loss(part, labels)
                self._hits += (logits.detach().argmax(1) == labels).sum()
                self._num_images += last - first
                # workers' gradients are averaged, so that each counts as if it were all
                yield PartLoss(loss, len(labels) * self._workers.world / num)

    def _loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean loss of some images, and their logits."""
        out = self._forward(images)
        logits, auxiliary = out if isinstance(out, tuple) else (out, None)
        smoothing = self._config.optim.label_smoothing
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        if auxiliary is not None:
            loss = loss + self._sizes.auxiliary_weight * F.cross_entropy(
                auxiliary, labels, label_smoothing=smoothing
            )
        return loss, logits

    def _gradients_summed(self, summed: bool) -> AbstractContextManager[None]:
        """Return the context in which a backward pass does, or does not, reach all workers."""
        if summed or self._parallel is None:
            return nullcontext()
        context: AbstractContextManager[None] = self._parallel.no_sync()
        return context

    def training_metrics(self) -> dict[str, float]:
        """Return the share of right answers on the augmented images, while training."""
        return {"train_accuracy": self._workers.total(self._hits).item() / self._num_images}

    def validate(self, epoch: int) -> dict[str, float]:
        """Score the held-out part with plain cross entropy; empty when there is none."""
        if self._held_out is None:
            return {}
        batches = evaluation_batches(
            self._data.train,
            self._held_out,
            self._settings.batch_size,
            info=self._data.info,
            device=self._settings.device,
            channels_last=self._settings.channels_last,
            dtype=self._dtype,
            workers=self._workers,
        )
        trace = LossTrace("validation loss", epoch, workers=self._workers)
        return score_images(
            self._network, batches, self._settings, "validation", trace, self._workers
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data."""
        return dict(self._stream.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._stream.load_state_dict(state)


def _part_bounds(num: int, batch_size: int) -> list[int]:
    """Cut a batch into parts of nearly equal size, so that none is left with a single image."""
    num_parts = -(-num // batch_size)
    size, larger = divmod(num, num_parts)
    return [number * size + min(number, larger) for number in range(num_parts + 1)]


def check_parts(
    config: RetrainConfig,
    data: ImageData,
    network: ConvNetwork | ImageNetNetwork,
    workers: Workers,
) -> None:
    """Insist that every worker gets images enough of every part of a batch.

    Args:
        config: the retraining.
        data: what it trains on.
        network: what is trained.
        workers: who trains together.

    Raises:
        ConfigError: it does not.
    """
    num = len(data.train)
    if config.train_portion is not None:
        num = int(num * config.train_portion)  # as `split_indices`
    smallest = _smallest_part(num, config)
    each = smallest // workers.world
    if not each:
        raise ConfigError(
            f"batch_size: a batch, or part of one, at the end of an epoch holds {smallest} images,"
            f" too few for {workers.world} workers (resources.workers_per_trial). Choose another"
            " batch_size, or fewer workers."
        )
    together = workers.several and config.sync_batch_norm
    if each == 1 and not together:
        _check_single_image(network, data.info)


def _smallest_part(num: int, config: RetrainConfig) -> int:
    """Return the size of the smallest part of a batch that an epoch over `num` images holds."""
    batch_size = config.batch_size * config.optim.accumulate
    last = num % batch_size
    sizes = [batch_size] if last < 2 else [batch_size, last]  # a last single image is left out
    return min(size // -(-size // config.batch_size) for size in sizes)


def _check_single_image(network: ConvNetwork | ImageNetNetwork, info: ImageInfo) -> None:
    """Insist that a training step with a single image is possible.

    Raises:
        ConfigError: a map has become a single pixel, and batch normalisation has nothing to
            normalise one value by.
    """
    trial = copy.deepcopy(network).train()
    trial.drop_path = 0.0
    parameter = next(trial.parameters())
    image = torch.zeros(1, info.channels, *info.image_size).to(parameter)
    try:
        with torch.no_grad():
            trial.forward_with_auxiliary(image)
    except ValueError as error:
        head = " (its auxiliary head included)" if network.auxiliary_head is not None else ""
        raise ConfigError(
            "batch_size: some batches would hold, or be cut into parts of, a single image, which"
            f" this network{head} cannot normalise where its maps are a single pixel. Choose a"
            " larger batch_size, or network.auxiliary: false."
        ) from error
