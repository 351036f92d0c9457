"""The datasets that torchvision knows how to download and read."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from darts_ray.config import DataConfig
from darts_ray.data.sources.base import (
    Decoded,
    Part,
    chosen_rows,
    convert_channels,
    resize_pixels,
)
from darts_ray.errors import DataError


@dataclass(frozen=True)
class _Layout:
    """Name in torchvision.datasets, and the files of each part below the folder."""

    name: str
    train: str
    test: str


_LAYOUTS = {
    "cifar10": _Layout(
        "CIFAR10", "cifar-10-batches-py/data_batch_?", "cifar-10-batches-py/test_batch"
    ),
    "cifar100": _Layout("CIFAR100", "cifar-100-python/train", "cifar-100-python/test"),
    "svhn": _Layout("SVHN", "train_32x32.mat", "test_32x32.mat"),
    "mnist": _Layout("MNIST", "MNIST/raw/train-*-ubyte", "MNIST/raw/t10k-*-ubyte"),
    "fashion_mnist": _Layout(
        "FashionMNIST", "FashionMNIST/raw/train-*-ubyte", "FashionMNIST/raw/t10k-*-ubyte"
    ),
}


# What torchvision raises on files that are missing, cut off or something else than they should be.
_READ_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    EOFError,
    AssertionError,
    pickle.UnpicklingError,
)


class TorchvisionSource:
    """CIFAR-10, CIFAR-100, SVHN, MNIST or Fashion-MNIST in torchvision's layout.

    torchvision decodes only the part it is asked for. Before it does, it compares the checksums
    of CIFAR's files, of both parts.
    """

    def __init__(self, config: DataConfig) -> None:
        assert config.path is not None
        self._config = config
        self._folder = Path(config.path).expanduser()
        self._layout = _LAYOUTS[config.source]

    def files(self, part: Part) -> list[Path]:
        """Return the files of a part, downloaded first if the configuration allows it."""
        pattern = self._layout.train if part == "train" else self._layout.test
        files = sorted(self._folder.glob(pattern))
        if not files and self._config.download:
            self._dataset(part, download=True)
            files = sorted(self._folder.glob(pattern))
        if not files:
            raise DataError(
                f"{self._folder}: holds no {pattern}, the {part} files of "
                f"{self._config.source}. Set data.download to true, or data.path to the folder "
                "that holds them."
            )
        return files

    def decode(self, part: Part) -> Decoded:
        """Read a part."""
        dataset = self._dataset(part, download=False)
        pixels = np.asarray(dataset.data)
        # (num, height, width), (num, height, width, 3), or SVHN's (num, 3, height, width)
        images = pixels[:, None] if pixels.ndim == 3 else pixels
        if images.shape[3] == 3:
            images = images.transpose(0, 3, 1, 2)
        labels = np.asarray(dataset.labels if self._layout.name == "SVHN" else dataset.targets)
        names = getattr(dataset, "classes", None) or [str(digit) for digit in range(10)]  # SVHN
        if not 0 <= labels.min() <= labels.max() < len(names):
            raise DataError(
                f"{self._folder}: the labels of {self._config.source}'s {part} files run from"
                f" {labels.min()} to {labels.max()}, but there are {len(names)} classes. Remove"
                " the files and set data.download to true."
            )
        maximum = self._config.max_train if part == "train" else self._config.max_test
        rows = chosen_rows(len(labels), maximum, self._config.split_seed)
        images = convert_channels(images[rows], self._config.channels)
        if self._config.image_size is not None:
            images = resize_pixels(images, self._config.image_size)
        return Decoded(images, labels[rows].astype(np.int64), tuple(names))

    def _dataset(self, part: Part, *, download: bool) -> Any:
        from torchvision import datasets  # slow to import; only the first reader needs it

        which = {"split": part} if self._layout.name == "SVHN" else {"train": part == "train"}
        try:
            return getattr(datasets, self._layout.name)(
                str(self._folder), download=download, **which
            )
        except _READ_ERRORS as error:
            raise DataError(
                f"{self._folder}: {self._config.source} cannot be "
                f"{'downloaded' if download else 'read'} ({error!r}). Remove what is there and "
                "set data.download to true, on a machine with network access."
            ) from error
