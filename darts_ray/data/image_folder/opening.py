"""Find the images of an ImageNet-like folder and learn what they are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from darts_ray.config import DataConfig
from darts_ray.data.cache import cache_folder, cached_json
from darts_ray.data.dataset import ImageData, ImageInfo
from darts_ray.data.image_folder.split import FolderSplit, FolderView
from darts_ray.data.normalisation import (
    Normalisation,
    count_values,
    normalisation,
    pixel_statistics,
)
from darts_ray.data.sources.base import chosen_rows
from darts_ray.data.sources.decoding import centre_crop, decode_image
from darts_ray.errors import DataError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_PROBED = 32  # images that are looked at to learn whether a dataset is grayscale
_MEASURED = 10_000  # images that mean and standard deviation are measured on, at most


@dataclass(frozen=True)
class _Listing:
    """The images below one folder: paths relative to it, and int64 labels, by file."""

    files: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    fingerprint: str


def open_folder(config: DataConfig) -> ImageData:
    """Open train/CLASS/* for training; val/CLASS/* is the test set.

    Images are seen at `image_size` pixels (resized, then cut to the centre); without it all must
    have the size of the first. They are RGB unless a sample of them is all grayscale. Mean and
    standard deviation are measured on at most 10,000 images, evenly spread, and remembered in the
    cache. The fingerprint covers names and sizes of the files, not their content.

    Raises:
        DataError: there are no class folders or no images, or one cannot be decoded.
    """
    assert config.path is not None
    root = Path(config.path).expanduser() / "train"
    names = _class_names(root)
    listing = _list(root, names, config.max_train, config.split_seed)
    view = _view(root, listing, config)
    split = _split(root, listing, view, config)
    channels, height, width = view.shape
    mean, std = normalisation(
        config, channels, lambda: _statistics(split, listing.fingerprint, view, config)
    )
    info = ImageInfo(
        num_classes=len(names),
        class_names=names,
        channels=channels,
        image_size=(height, width),
        mean=mean,
        std=std,
        num_train=len(split),
        fingerprint=listing.fingerprint,
    )
    return ImageData(
        info,
        split,
        lambda: _open_test(config, names, view),
        lambda: _check_classes(_test_folder(config), names),
    )


def _test_folder(config: DataConfig) -> Path:
    assert config.path is not None
    return Path(config.path).expanduser() / "val"


def _check_classes(root: Path, names: tuple[str, ...]) -> None:
    unknown = sorted(set(_class_names(root)) - set(names))
    if unknown:
        raise DataError(f"{root / unknown[0]}: train has no such class; remove or rename it.")


def _open_test(config: DataConfig, names: tuple[str, ...], view: FolderView) -> FolderSplit:
    root = _test_folder(config)
    _check_classes(root, names)
    listing = _list(root, names, config.max_test, config.split_seed)
    return _split(root, listing, view, config)


def _class_names(root: Path) -> tuple[str, ...]:
    try:
        names = tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir()))
    except OSError as error:
        raise DataError(
            f"{root}: cannot be read: {error.strerror}. data.path must name a folder with "
            "train/CLASS/*.jpg and val/CLASS/*.jpg."
        ) from error
    if not names:
        raise DataError(f"{root}: holds no folders; there must be one folder per class.")
    return names


def _list(root: Path, names: Sequence[str], maximum: int | None, seed: int) -> _Listing:
    files: list[bytes] = []
    labels: list[int] = []
    digest = hashlib.blake2b(digest_size=16)
    for label, name in enumerate(names):
        if not (root / name).is_dir():
            continue  # a validation folder need not have every class
        for entry in sorted(os.scandir(root / name), key=lambda entry: entry.name):
            if entry.name.lower().endswith(_SUFFIXES):
                file = os.fsencode(f"{name}/{entry.name}")
                files.append(file)
                labels.append(label)
                digest.update(b"%s %d\n" % (file, entry.stat().st_size))
    if not files:
        raise DataError(f"{root}: holds no images ({', '.join(_SUFFIXES)}) in its class folders.")
    rows = chosen_rows(len(files), maximum, seed)
    return _Listing(np.array(files)[rows], np.array(labels)[rows], digest.hexdigest())


def _split(root: Path, listing: _Listing, view: FolderView, config: DataConfig) -> FolderSplit:
    labels = torch.from_numpy(listing.labels)
    return FolderSplit(root, listing.files, labels, view=view, workers=config.workers)


def _view(root: Path, listing: _Listing, config: DataConfig) -> FolderView:
    """Decode a few evenly spread images to learn channels and size."""
    geometry = centre_crop(config.image_size)
    step = -(-len(listing.files) // _PROBED)
    probed = [root / os.fsdecode(file) for file in listing.files[::step]]
    images = [decode_image(file, str(file), config.channels, geometry) for file in probed]
    shape = images[0].shape
    if all(image.shape[0] == 1 for image in images):
        # Nothing is converted unless asked for: a colour image that turns up later is an error.
        return FolderView(shape, config.channels, config.image_size)
    return FolderView((3, *shape[1:]), 3, config.image_size)


def _statistics(
    split: FolderSplit, fingerprint: str, view: FolderView, config: DataConfig
) -> Normalisation:
    """Measure mean and standard deviation per channel, or recall them from the cache."""

    def measure() -> Normalisation:
        order = torch.linspace(0, len(split) - 1, min(len(split), _MEASURED)).round().long()
        counts = np.zeros((view.shape[0], 256), dtype=np.int64)
        for images, _ in split.read(order, 64, device=torch.device("cpu")):
            counts += count_values(images.numpy())
        return pixel_statistics(counts)

    settings = [fingerprint, view.shape, view.channels, view.size]
    settings += [config.max_train, config.split_seed]
    key = hashlib.blake2b(json.dumps(settings).encode(), digest_size=12).hexdigest()
    mean, std = cached_json(cache_folder(config.cache_dir), f"image_folder-{key}", measure)
    return tuple(mean), tuple(std)
