"""Training a derived conv network on images."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

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
from darts_ray.train.evaluation import EvaluationSettings, score_images
from darts_ray.train.schedules import drop_path_rate
from darts_ray.train.task import PartLoss


class ImageTask:
    """Classification with auxiliary head, drop path and label smoothing.

    With `train_portion` it trains on that share of train and validates on the rest, the same
    shares as a search with the same data and portion; without, it trains on everything.

    Args:
        config: the retraining.
        data: images; the test set is not touched here.
        network: on `device`; its memory layout is changed to the images'.
        device: where batches are made.

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
    ) -> None:
        assert isinstance(config.network, ConvNetworkConfig)
        layout = image_layout(config.channels_last, device, config.precision)
        self._network = network.to(memory_format=layout)
        self._config = config
        self._sizes = config.network
        self._data = data
        self._settings = EvaluationSettings.of_validation(config, device)
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
        )
        if _smallest_part(len(train), config) == 1:
            _check_single_image(network, data.info)
        forward = network.forward_with_auxiliary
        self._forward = torch.compile(forward) if config.compile else forward
        self._hits = torch.zeros((), dtype=torch.int64, device=device)
        self._num_images = 0

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
        """Return the number of images."""
        return len(batch[1])

    def rate_factor(self, batch: Batch) -> float:
        """Return 1: the learning rate does not depend on the batch."""
        return 1.0

    def losses(self, batch: Batch) -> Iterator[PartLoss]:
        """Yield the loss of each part: cross entropy, plus the weighted auxiliary head's."""
        images, targets = batch
        # parts of nearly equal size, so that none is left with a single image
        num_parts = -(-len(targets) // self._config.batch_size)
        smoothing = self._config.optim.label_smoothing
        for part, labels in zip(
            images.tensor_split(num_parts), targets.tensor_split(num_parts), strict=True
        ):
            with autocast(self._settings.device, self._config.precision):
                logits, auxiliary = self._forward(part)
                loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
                if auxiliary is not None:
                    loss = loss + self._sizes.auxiliary_weight * F.cross_entropy(
                        auxiliary, labels, label_smoothing=smoothing
                    )
            self._hits += (logits.detach().argmax(1) == labels).sum()
            self._num_images += len(labels)
            yield PartLoss(loss, len(labels) / len(targets))

    def training_metrics(self) -> dict[str, float]:
        """Return the share of right answers on the augmented images, while training."""
        return {"train_accuracy": self._hits.item() / self._num_images}

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
        )
        trace = LossTrace("validation loss", epoch)
        return score_images(self._network, batches, self._settings, "validation", trace)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data."""
        return dict(self._stream.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._stream.load_state_dict(state)


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
