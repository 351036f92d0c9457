"""Images in files, one folder per class, decoded by worker processes as they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from darts_ray.data.augment import ImageNetTransform
from darts_ray.data.dataset import SampleTransform, sample_seeds
from darts_ray.data.sources.decoding import centre_crop, check_shape, decode_image
from darts_ray.errors import DataError

Request = tuple[int, int]  # which image, and the seed of its transform


@dataclass(frozen=True)
class FolderView:
    """How files become pixels.

    Attributes:
        shape: (channels, height, width) that every image must have in the end.
        channels: 1 or 3 converts every image; None takes them as they are.
        size: side of the evaluation view (see `centre_crop`); None takes whole images.
    """

    shape: tuple[int, int, int]
    channels: int | None
    size: int | None


class FolderSplit:
    """Labelled image files; a `Split`.

    Args:
        root: folder that `files` are relative to.
        files: paths as bytes; an array, because a million Python strings would take 100 MB in
            every process.
        labels: int64 (num,).
        view: how files become pixels.
        workers: decoding processes; 0 decodes in this one.
    """

    def __init__(
        self,
        root: Path,
        files: NDArray[np.bytes_],
        labels: Tensor,
        *,
        view: FolderView,
        workers: int,
    ) -> None:
        self.labels = labels
        self._root = root
        self._files = files
        self._view = view
        self._workers = workers

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._files)

    def with_labels(self, labels: Tensor) -> FolderSplit:
        """Return the same images under other labels; see `Split.with_labels`."""
        return FolderSplit(self._root, self._files, labels, view=self._view, workers=self._workers)

    def read(
        self,
        order: Tensor,
        batch_size: int,
        *,
        device: torch.device,
        transform: SampleTransform | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches; see `Split.read`.

        Raises:
            DataError: an image is corrupt or has another shape than the view asks for.
        """
        on_gpu = device.type == "cuda"
        loader = DataLoader(
            _Decoder(self._root, self._files, self._view, transform),
            batch_sampler=_requests(order, batch_size, seeds),
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=on_gpu,
            # Otherwise every pass would draw from the global generator and so change a training.
            generator=torch.Generator(),
        )
        for first, images in zip(range(0, len(order), batch_size), loader, strict=True):
            if isinstance(images, str):
                raise DataError(images)
            labels = self.labels[order[first : first + batch_size]]
            yield images.to(device, non_blocking=on_gpu), labels.to(device, non_blocking=on_gpu)


class _Decoder(Dataset["Tensor | str"]):
    """Makes single images; lives in the worker processes."""

    def __init__(
        self,
        root: Path,
        files: NDArray[np.bytes_],
        view: FolderView,
        transform: SampleTransform | None,
    ) -> None:
        self._root = root
        self._files = files
        self._view = view
        self._transform = transform
        crops = isinstance(transform, ImageNetTransform) and transform.crops
        self._geometry = None if crops else centre_crop(view.size)

    def __getitem__(self, request: Request) -> Tensor | str:
        """Return uint8 pixels (channels, height, width), or a message if that fails.

        An exception would reach the main process as a worker's traceback.
        """
        index, seed = request
        file = self._root / os.fsdecode(self._files[index])
        try:
            pixels = torch.tensor(
                decode_image(file, str(file), self._view.channels, self._geometry)
            )
            if self._transform is not None:
                pixels = self._transform(pixels, seed)
            check_shape(tuple(pixels.shape), self._view.shape, str(file))
        except DataError as error:
            return str(error)
        return pixels


def _requests(
    order: Tensor, batch_size: int, seeds: Sequence[int] | None
) -> Iterator[list[Request]]:
    for number, indices in enumerate(torch.split(order.cpu(), batch_size)):
        spread = sample_seeds(seeds[number], len(indices)) if seeds else repeat(0)
        yield list(zip(indices.tolist(), spread, strict=False))


def _collate(samples: list[Tensor | str]) -> Tensor | str:
    """Stack the images, or pass on the first message."""
    images = []
    for sample in samples:
        if isinstance(sample, str):
            return sample
        images.append(sample)
    return torch.stack(images)
