"""From a configuration to an opened dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from darts_ray.config import DataConfig
from darts_ray.data.cache import FORMAT, CachedImages, cache_folder, cached_images
from darts_ray.data.classes import label_map, mapped, renamed
from darts_ray.data.dataset import ImageData, ImageInfo, ImageSplit, TextData
from darts_ray.data.image_folder.opening import open_folder
from darts_ray.data.normalisation import normalisation
from darts_ray.data.sources import ImageSource, Part, image_source
from darts_ray.data.text.english import english_words
from darts_ray.data.text.words import TextPart, build_text_data, read_words
from darts_ray.errors import DataError

# Settings that shape the decoded pixels and labels; with the files they name a cache file.
_SHAPING = (
    "source",
    "image_size",
    "channels",
    "image_column",
    "label_column",
    "class_names",
    "first_label",
)


def open_data(config: DataConfig) -> ImageData | TextData:
    """Open images or text, whichever the configuration names.

    Raises:
        DataError: as `open_images` and `open_text`.
    """
    return open_text(config) if config.is_text else open_images(config)


def open_images(config: DataConfig) -> ImageData:
    """Open an image dataset; its test set stays closed until `ImageData.open_test`.

    Classes, channels, size and normalisation come from the data unless the configuration says
    otherwise. Test labels are brought in line with the training part's by the names of classes.

    Raises:
        DataError: a file or column is missing, an image is corrupt, a label is out of range,
            sizes or colour modes are mixed; the message names the place and the remedy.
    """
    if config.source == "image_folder":
        return open_folder(config)
    source = image_source(config)
    train = _cached(config, source, "train")
    _, channels, height, width = train.images.shape
    mean, std = normalisation(config, channels, lambda: (train.mean, train.std))
    names = renamed(train.class_names, config.class_names, config.path or config.source)
    info = ImageInfo(
        num_classes=len(names),
        class_names=names,
        channels=channels,
        image_size=(height, width),
        mean=mean,
        std=std,
        num_train=len(train.labels),
        fingerprint=train.fingerprint,
    )
    return ImageData(
        info,
        ImageSplit(train.images, train.labels),
        partial(_open_test, config, source, info, train.class_names),
        partial(_check_test, config, source, info, train.class_names),
    )


def open_text(config: DataConfig) -> TextData:
    """Open a text; its test part stays closed until `TextData.open_test`.

    Raises:
        DataError: a file is missing, empty or not UTF-8.
    """
    read: Callable[[TextPart], list[str]]
    if config.path is None:
        read = english_words
    else:
        read = partial(read_words, Path(config.path).expanduser())
    data = build_text_data(read, config.max_train, config.max_test)
    return replace(data, test_checker=lambda: len(data.open_test()))


def _check_test(
    config: DataConfig, source: ImageSource, info: ImageInfo, names: tuple[str, ...]
) -> int:
    return len(_open_test(config, source, info, names))


def _open_test(
    config: DataConfig, source: ImageSource, info: ImageInfo, names: tuple[str, ...]
) -> ImageSplit:
    test = _cached(config, source, "test")
    shape = (info.channels, *info.image_size)
    if test.images.shape[1:] != shape:
        raise DataError(
            f"The test images are {tuple(test.images.shape[1:])} (channels, height, width), the "
            f"training images {shape}: set data.image_size and data.channels."
        )
    mapping = label_map(test.class_names, names, "The test set", "the training set")
    return ImageSplit(test.images, mapped(test.labels, mapping))


def _cached(config: DataConfig, source: ImageSource, part: Part) -> CachedImages:
    settings = {name: getattr(config, name) for name in _SHAPING}
    maximum = config.max_train if part == "train" else config.max_test
    if maximum is not None:
        settings["chosen"] = (maximum, config.split_seed)
    files = [_identity(file) for file in source.files(part)]
    text = json.dumps([FORMAT, part, settings, files], sort_keys=True)
    key = f"{config.source}-{part}-{hashlib.blake2b(text.encode(), digest_size=12).hexdigest()}"
    return cached_images(cache_folder(config.cache_dir), key, lambda: source.decode(part))


def _identity(file: Path) -> list[object]:
    """Tell a file's content from others' at no cost, wherever it lies.

    Size and time see an edit in place, both ends of the file (in Parquet, the index of all
    columns) what replaces a file without changing either.
    """
    digest = hashlib.blake2b(digest_size=12)
    try:
        status = file.stat()
        with file.open("rb") as handle:
            digest.update(handle.read(65536))
            handle.seek(max(0, status.st_size - 65536))
            digest.update(handle.read())
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror}.") from error
    return [file.name, status.st_size, status.st_mtime_ns, digest.hexdigest()]
