"""Images in files, one folder per class, decoded by worker processes as they are needed."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from darts_ray.data.augment import ImageNetTransform
from darts_ray.data.dataset import SampleTransform, sample_seeds
from darts_ray.data.sources.decoding import (
    centre_crop,
    check_shape,
    decode_image,
    decode_jpeg_file,
)
from darts_ray.errors import DataError
from darts_ray.runtime.workers import ALONE, Workers

_SHARED_MEMORY = Path("/dev/shm")
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
        self._idle: WeakKeyDictionary[object, list[tuple[DataLoader[Tensor | str], _Sampler]]]
        self._idle = WeakKeyDictionary()

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
        workers: Workers = ALONE,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches; see `Split.read`.

        Raises:
            DataError: an image is corrupt or has another shape than the view asks for.
        """
        if self._workers:
            held = -(-batch_size // workers.world)
            _check_shared_memory(self._workers, held * math.prod(self._view.shape))
        on_gpu = device.type == "cuda"
        with self._loader(transform, on_gpu) as (loader, sampler):
            sampler.requests = partial(_requests, order, batch_size, seeds, workers)
            for first, images in zip(range(0, len(order), batch_size), loader, strict=True):
                if isinstance(images, str):
                    raise DataError(images)
                indices = order[first : first + batch_size]
                labels = self.labels[indices[workers.rows(len(indices)).held]]
                images = images.reshape(len(labels), *self._view.shape)
                yield (
                    images.to(device, non_blocking=on_gpu),
                    labels.to(device, non_blocking=on_gpu),
                )

    @contextmanager
    def _loader(
        self, transform: SampleTransform | None, on_gpu: bool
    ) -> Iterator[tuple[DataLoader[Tensor | str], _Sampler]]:
        """Lend a loader with its processes for one pass; they live on for the next one.

        Passes that run side by side, as those of weights and alphas, get one each. Loaders of a
        transform that is gone go with it.
        """
        idle = self._idle.setdefault(transform or self, [])
        if idle:
            loader, sampler = idle.pop()
        else:
            sampler = _Sampler()
            loader = DataLoader(
                # a copy, so that the loader does not keep alive what it is kept under
                _Decoder(self._root, self._files, self._view, copy.copy(transform)),
                batch_sampler=sampler,
                num_workers=self._workers,
                persistent_workers=self._workers > 0,
                collate_fn=_collate,
                pin_memory=on_gpu,
                # Otherwise every pass would draw from the global generator and so change a
                # training.
                generator=torch.Generator(),
            )
        try:
            yield loader, sampler
        except (GeneratorExit, DataError):  # the pass was given up; the processes are sound
            idle.append((loader, sampler))
            raise
        idle.append((loader, sampler))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the processes out; a copy starts its own."""
        return {**self.__dict__, "_idle": WeakKeyDictionary()}


class _Sampler(Sampler[list[Request]]):
    """Gives a loader the batches of the pass that it is lent for."""

    requests: Callable[[], Iterator[list[Request]]]

    def __iter__(self) -> Iterator[list[Request]]:
        """Yield the requests of one batch after the other."""
        return self.requests()


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
            pixels = self._decode(file)
            if self._transform is not None:
                pixels = self._transform(pixels, seed)
            check_shape(tuple(pixels.shape), self._view.shape, str(file))
        except DataError as error:
            return str(error)
        return pixels

    def _decode(self, file: Path) -> Tensor:
        channels, geometry = self._view.channels, self._geometry
        pixels = decode_jpeg_file(file) if channels == 3 else None
        if pixels is None:
            return torch.tensor(decode_image(file, str(file), channels, geometry))
        if geometry is None:
            return pixels
        view = geometry(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()))
        return torch.from_numpy(np.array(view)).permute(2, 0, 1)


def _check_shared_memory(workers: int, batch_bytes: int) -> None:
    """Refuse to begin what would wait for ever: a worker that cannot hand over says so to nobody.

    Raises:
        DataError: /dev/shm has no room for the batches that are under way.
    """
    needed = 2 * workers * batch_bytes  # each worker reads one batch ahead
    if _SHARED_MEMORY.is_dir() and (free := shutil.disk_usage(_SHARED_MEMORY).free) < needed:
        raise DataError(
            f"data.workers: {workers} processes hand over {needed / 2**20:.0f} MiB of images"
            f" through {_SHARED_MEMORY}, which has {free / 2**20:.0f} MiB free. Enlarge it (for"
            " example `docker run --shm-size 4g`), or set data.workers=0 or a smaller batch_size."
        )


def _requests(
    order: Tensor, batch_size: int, seeds: Sequence[int] | None, workers: Workers
) -> Iterator[list[Request]]:
    for number, indices in enumerate(torch.split(order.cpu(), batch_size)):
        spread = sample_seeds(seeds[number], len(indices)) if seeds else [0] * len(indices)
        held = workers.rows(len(indices)).held
        yield list(zip(indices[held].tolist(), spread[held], strict=True))


def _collate(samples: list[Tensor | str]) -> Tensor | str:
    """Stack the images, or pass on the first message."""
    images = []
    for sample in samples:
        if isinstance(sample, str):
            return sample
        images.append(sample)
    return torch.stack(images) if images else torch.empty(0, dtype=torch.uint8)
