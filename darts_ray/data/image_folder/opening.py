"""Find the images of an ImageNet-like folder and learn what they are."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch

from darts_ray.config import DataConfig
from darts_ray.data.cache import cache_folder, cached_json, writable, write_atomically
from darts_ray.data.classes import listed, renamed
from darts_ray.data.dataset import ImageData, ImageInfo
from darts_ray.data.image_folder.listing import class_folders, list_images
from darts_ray.data.image_folder.remembered import Listing, listing_file
from darts_ray.data.image_folder.split import FolderSplit, FolderView
from darts_ray.data.normalisation import (
    Normalisation,
    count_values,
    normalisation,
    pixel_statistics,
)
from darts_ray.data.sources.base import Part
from darts_ray.data.sources.decoding import centre_crop, decode_image
from darts_ray.errors import DataError

_PROBED = 32  # images that are looked at to learn whether a dataset is grayscale
_MEASURED = 10_000  # images that are decoded to measure and to check, at most


def open_folder(config: DataConfig) -> ImageData:
    """Open train/CLASS/* for training; val/CLASS/* is the test set.

    Another folder may be named with `test_part`. Images are seen at `image_size` pixels (resized,
    then cut to the centre); without it all must have the size of the first. They are RGB unless a
    sample of them is all grayscale. Mean and
    standard deviation are measured on at most 10,000 images, evenly spread, and remembered in the
    cache. The fingerprint covers names and sizes of the files, not their content.

    Raises:
        DataError: there are no class folders or no images, or one cannot be decoded.
    """
    root = _folder(config, "train")
    folders = class_folders(root)
    cache = cache_folder(config.cache_dir)
    listing = list_images(root, folders, config.max_train, config.split_seed, cache=cache)
    view = _view(root, listing, config)
    split = _split(root, listing, view, config)
    channels, height, width = view.shape
    if len(split) <= _MEASURED:  # even where mean and deviation are given: to find bad images
        _statistics(split, listing.fingerprint, view, config)
    mean, std = normalisation(
        config, channels, lambda: _statistics(split, listing.fingerprint, view, config)
    )
    names = renamed(folders, config.class_names, str(root))
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
        lambda: _open_test(config, folders, view)[0],
        lambda: _check_test(config, folders, view),
    )


def shared_listing(config: DataConfig) -> tuple[str, bytes] | None:
    """Return the training images' listing as this machine keeps it, for another one's cache.

    Returns:
        The file's name and content; None where none is kept.
    """
    if config.source != "image_folder":
        return None
    root = _folder(config, "train")
    file = listing_file(cache_folder(config.cache_dir), root, class_folders(root))
    if file is None or not file.exists():
        return None
    return file.name, file.read_bytes()


def accept_listing(config: DataConfig, listing: tuple[str, bytes] | None) -> None:
    """Put another machine's listing into the cache; it serves if the folders are the same here.

    Raises:
        DataError: the cache cannot be written.
    """
    if listing is None:
        return
    name, content = listing
    file = cache_folder(config.cache_dir) / name
    if not file.exists():
        with writable(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, lambda place: place.write_bytes(content))


def _folder(config: DataConfig, part: Part) -> Path:
    assert config.path is not None
    name = "train" if part == "train" else (config.test_part or "val")
    return Path(config.path).expanduser() / name


def _open_test(
    config: DataConfig, names: tuple[str, ...], view: FolderView
) -> tuple[FolderSplit, Listing]:
    root = _folder(config, "test")
    present = class_folders(root)
    if unknown := [name for name in present if name not in names]:
        raise DataError(
            f"{root / unknown[0]}: train has no such class; remove or rename it."
            f" {root} has: {listed(present)}. The training set has: {listed(names)}."
        )
    cache = cache_folder(config.cache_dir)
    listing = list_images(root, names, config.max_test, config.split_seed, cache=cache)
    return _split(root, listing, view, config), listing


def _check_test(config: DataConfig, names: tuple[str, ...], view: FolderView) -> int:
    """Decode every image of the test set, or many of a large one, once."""
    split, listing = _open_test(config, names, view)
    _statistics(split, listing.fingerprint, view, config, part="test")
    return len(split)


def _split(root: Path, listing: Listing, view: FolderView, config: DataConfig) -> FolderSplit:
    labels = torch.from_numpy(listing.labels)
    return FolderSplit(root, listing.files, labels, view=view, workers=config.workers)


def _view(root: Path, listing: Listing, config: DataConfig) -> FolderView:
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
    split: FolderSplit,
    fingerprint: str,
    view: FolderView,
    config: DataConfig,
    part: Part = "train",
) -> Normalisation:
    """Measure mean and standard deviation per channel, or recall them from the cache.

    That decodes all images of a small part, so those that cannot be decoded are found.
    """

    def measure() -> Normalisation:
        order = torch.linspace(0, len(split) - 1, min(len(split), _MEASURED)).round().long()
        counts = np.zeros((view.shape[0], 256), dtype=np.int64)
        for images, _ in split.read(order, 64, device=torch.device("cpu")):
            counts += count_values(images.numpy())
        return pixel_statistics(counts)

    settings = [fingerprint, view.shape, view.channels, view.size]
    settings += [config.max_train if part == "train" else config.max_test, config.split_seed]
    key = hashlib.blake2b(json.dumps(settings).encode(), digest_size=12).hexdigest()
    mean, std = cached_json(cache_folder(config.cache_dir), f"image_folder-{key}", measure)
    return tuple(mean), tuple(std)
