"""Batches of images: an endless augmented stream for training, one plain pass for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from darts_ray.config import AugmentConfig
from darts_ray.data.augment import Normalise, crop_and_flip, cutout_, sample_transform
from darts_ray.data.dataset import ImageInfo, Split
from darts_ray.data.doubts import warn_of_doubts
from darts_ray.errors import CheckpointError, DataError
from darts_ray.runtime.workers import ALONE, Rows, Workers

Batch = tuple[Tensor, Tensor]


class ImageStream:
    """A seeded, resumable stream of augmented batches on a device.

    Order and augmentation of batch b in pass p over the data follow from (seed, p, b) alone, so
    the state of a stream is two integers, and nothing waits for the device. Streams that run side
    by side (weights and alphas of one search) need different seeds.

    A deliberate correction of the original code, which made a new iterator for every alpha batch:
    `next` goes on through a shuffled pass and reshuffles when it wraps.

    Args:
        split: the images.
        indices: (num,) which of them this stream draws from.
        batch_size: images per batch.
        info: for normalisation and sizes.
        augment: None for no augmentation.
        seed: of order and augmentation.
        device: where batches are made; a split in memory is copied there once.
        drop_last: leave out a last, smaller batch.
        channels_last: memory layout of the images.
        dtype: of the images.
        workers: who trains together; each gets its rows of every batch, changed as they would be
            if one had them all.

    Attributes:
        rows: which rows of the whole batch the last one held; None before the first.

    Raises:
        DataError: there are fewer images than one batch.
    """

    rows: Rows | None = None

    def __init__(
        self,
        split: Split,
        indices: Tensor,
        batch_size: int,
        *,
        info: ImageInfo,
        augment: AugmentConfig | None,
        seed: int,
        device: torch.device,
        drop_last: bool = False,
        channels_last: bool = False,
        dtype: torch.dtype = torch.float32,
        workers: Workers = ALONE,
    ) -> None:
        if len(indices) < batch_size:
            raise DataError(
                f"A batch of {batch_size} does not fit into {len(indices)} images: lower "
                "batch_size or use more data."
            )
        if augment is not None:  # a stream that trains
            warn_of_doubts(info, augment)
        self._split = split
        self._indices = indices.cpu()
        self._batch_size = batch_size
        self._augment = augment
        self._erased_side = augment.cutout if augment else 0
        self._erasing_probability = 1.0
        self._transform = sample_transform(augment, info.image_size) if augment else None
        self._normalise = Normalise(
            info.mean, info.std, device=device, dtype=dtype, channels_last=channels_last
        )
        self._seed = seed
        self._device = device
        self._generator = torch.Generator(device)
        self._workers = workers
        self._num_batches = (
            len(indices) // batch_size if drop_last else -(-len(indices) // batch_size)
        )
        self._pass = 0
        self._position = 0
        self._seeds: list[int] = []
        self._pixels: Iterator[Batch] | None = None

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return self._num_batches

    def epoch(self) -> Iterator[Batch]:
        """Yield one whole pass, newly shuffled; a pass that was begun before is given up.

        Yields:
            normalised images (batch, channels, height, width) and int64 targets (batch,).
        """
        if self._position:
            self._wrap()
        for _ in range(len(self)):
            yield self.next()

    def next(self) -> Batch:
        """Return the next batch of the pass, or the first of the next pass after the last."""
        if self._position == len(self):
            self._wrap()
        if self._pixels is None:
            self._pixels = self._open_pass()
        images, targets = next(self._pixels)
        begun = self._position * self._batch_size
        rows = self._workers.rows(min(self._batch_size, len(self._indices) - begun))
        self.rows = rows
        if self._augment is not None:
            self._generator.manual_seed(self._seeds[self._position])
            # A random resized crop takes the padded crop's place.
            padding = 0 if self._augment.random_resized_crop else self._augment.crop_padding
            flip = self._augment.horizontal_flip
            if padding or flip:
                images = crop_and_flip(images, padding, flip, self._generator, rows)
        images = self._normalise(images)
        if self._erased_side:
            images = cutout_(
                images, self._erased_side, self._generator, self._erasing_probability, rows
            )
        self._position += 1
        return images, targets

    def erase(self, side: int, probability: float) -> None:
        """From now on erase a square of so many pixels with this probability.

        It is not part of the state: set it again after loading one.
        """
        self._erased_side, self._erasing_probability = side, probability

    def state_dict(self) -> dict[str, int]:
        """Return the position; the rest follows from the arguments."""
        return {"pass": self._pass, "position": self._position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on exactly where a stream with the same arguments was.

        Raises:
            CheckpointError: that stream had more batches in a pass.
        """
        if not 0 <= state["position"] <= len(self):
            raise CheckpointError(
                f"The data stream was at batch {state['position']}, but a pass has {len(self)} "
                "here: resume with the same data, split and batch size."
            )
        self._pass, self._position = int(state["pass"]), int(state["position"])
        self._pixels = None

    def _wrap(self) -> None:
        self._pass += 1
        self._position = 0
        self._pixels = None

    def _open_pass(self) -> Iterator[Batch]:
        """Start reading the current pass at the current position."""
        sequence = np.random.SeedSequence((self._seed, self._pass))
        shuffle, *seeds = (int(s) for s in sequence.generate_state(1 + len(self), np.uint64))
        self._seeds = seeds
        shuffled = torch.randperm(
            len(self._indices), generator=torch.Generator().manual_seed(shuffle)
        )
        first, last = self._position * self._batch_size, len(self) * self._batch_size
        return self._split.read(
            self._indices[shuffled[first:last]],
            self._batch_size,
            device=self._device,
            transform=self._transform,
            seeds=seeds[self._position :],
            workers=self._workers,
        )


def evaluation_batches(
    split: Split,
    indices: Tensor | None,
    batch_size: int,
    *,
    info: ImageInfo,
    device: torch.device,
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
    workers: Workers = ALONE,
    on_pixels: Callable[[Tensor], None] | None = None,
) -> Iterator[Batch]:
    """Yield images (`indices`, or all) once, in order, without augmentation.

    `on_pixels` receives each batch before it is normalised: uint8 (batch, channels, height,
    width).

    Yields:
        normalised images (batch, channels, height, width) and int64 targets (batch,); the last
        batch may be smaller. Several workers get their rows of each batch, of the last maybe none.
    """
    order = torch.arange(len(split)) if indices is None else indices
    normalise = Normalise(
        info.mean, info.std, device=device, dtype=dtype, channels_last=channels_last
    )
    for images, targets in split.read(order, batch_size, device=device, workers=workers):
        if on_pixels is not None:
            on_pixels(images)
        yield normalise(images), targets
