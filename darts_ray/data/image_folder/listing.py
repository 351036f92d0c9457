"""Which image files there are below one folder per class, and which class they are of."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from darts_ray.data.classes import listed
from darts_ray.data.image_folder.remembered import Listing, listing_file, recall, remember
from darts_ray.data.sources.base import chosen_rows
from darts_ray.errors import DataError

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm"),
)
# Images that are not read; files of other kinds (lists, thumbnails' databases) are no loss.
_OTHER_IMAGES = (".gif", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".tga", ".npy")
# What systems and tools leave beside the classes; hidden names (.ipynb_checkpoints) as well.
_TOOL_FOLDERS = (
    *("__macosx", "@eadir", "lost+found", "#recycle", "@recycle", "$recycle.bin"),
    *("system volume information", "__pycache__", "#snapshot", "@tmp"),
)
_log = logging.getLogger(__name__)


def class_folders(root: Path) -> tuple[str, ...]:
    """Return the names of the class folders, sorted; hidden and tools' folders are none.

    Raises:
        DataError: there are none, the folder cannot be read, or a link leads nowhere.
    """
    try:
        entries = sorted(_entries(root), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{root}: cannot be read: {error.strerror}. data.path must name a folder with "
            f"train/CLASS/*.jpg and val/CLASS/*.jpg{_beside(root)}."
        ) from error
    names = tuple(entry.name for entry in entries if _is_folder(entry))
    for name in names:
        if not name.isprintable():
            raise DataError(
                f"{root}: the folder {name!r} cannot name a class, as it holds bytes that are no"
                " UTF-8 or control characters: rename it."
            )
    if not names:
        flat = sum(entry.name.lower().endswith(SUFFIXES) for entry in entries)
        images = f" The {flat} images in it belong into such folders." if flat else ""
        raise DataError(f"{root}: holds no folders; there must be one folder per class.{images}")
    return names


def list_images(
    root: Path, names: Sequence[str], maximum: int | None, seed: int, *, cache: Path
) -> Listing:
    """List the images of all classes, or recall the listing of a large folder.

    Args:
        root: the folder with the class folders.
        names: classes by label; those without a folder are left out.
        maximum: how many images to choose, at most.
        seed: of the choice.
        cache: the cache folder.

    Raises:
        DataError: a class folder has no image that can be read, or holds them in folders of its
            own; a file with an image's name is empty, no file, or a link that leads nowhere.
    """
    file = listing_file(cache, root, names)
    listing = None if file is None else recall(file)
    if listing is None:
        listing = _list(root, names)
        if file is not None:
            remember(file, listing)
    rows = chosen_rows(len(listing.files), maximum, seed)
    return replace(listing, files=listing.files[rows], labels=listing.labels[rows])


def _list(root: Path, names: Sequence[str]) -> Listing:
    files: list[bytes] = []
    labels: list[int] = []
    ignored: Counter[str] = Counter()
    digest = hashlib.blake2b(digest_size=16)
    for label, name in enumerate(names):
        folder = root / name
        if not folder.is_dir():
            continue  # a validation folder need not have every class
        images = _images(folder, ignored)
        for file, size in images:
            path = os.fsencode(f"{name}/{file}")
            files.append(path)
            labels.append(label)
            digest.update(b"%s %d\n" % (path, size))
    if ignored:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(ignored.items()))
        _log.warning("%s: files that are not read: %s", root, kinds)
    return Listing(np.array(files), np.array(labels, dtype=np.int64), digest.hexdigest())


def _images(folder: Path, ignored: Counter[str]) -> list[tuple[str, int]]:
    """Return name and size of a class's images, by name; count other images in `ignored`."""
    images: list[tuple[str, int]] = []
    others: Counter[str] = Counter()
    folders: list[str] = []
    try:
        for entry in _entries(folder):
            if entry.name.lower().endswith(SUFFIXES):
                images.append((entry.name, _size(entry)))
            elif _is_folder(entry):
                folders.append(entry.name)
            else:
                others[Path(entry.name).suffix.lower() or "without a suffix"] += 1
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}.") from error
    nested = [name for name in sorted(folders) if not images or _holds_images(folder / name)]
    if nested:
        raise DataError(
            f"{folder}: holds the folders {listed(nested)}, but images are read from the class"
            " folder itself only, as a folder may also be a class of its own. Move their images"
            " up, or the folders away."
        )
    if not images:
        found = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        raise DataError(
            f"{folder}: the class holds no images that can be read ({', '.join(SUFFIXES)});"
            f" the folder holds {found or 'nothing'}. Add images, or remove the folder."
        )
    ignored.update({suffix: n for suffix, n in others.items() if suffix in _OTHER_IMAGES})
    return sorted(images)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a folder, without hidden things and those that tools leave."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] != "." and entry.name.lower() not in _TOOL_FOLDERS:
                yield entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell folders, through links; a link to nothing with no suffix must have been one."""
    try:
        if entry.is_dir():
            return True
        if entry.is_symlink() and not Path(entry.name).suffix:
            entry.stat()
    except OSError as error:
        raise DataError(f"{entry.path}: {_link_fault(error)}") from error
    return False


def _size(entry: os.DirEntry[str]) -> int:
    """Return the size of an image file in bytes."""
    try:
        status = entry.stat()
        is_file = entry.is_file()
    except OSError as error:
        raise DataError(f"{entry.path}: {_link_fault(error)}") from error
    if not is_file:
        raise DataError(f"{entry.path}: has the name of an image, but is no file; rename it.")
    if status.st_size == 0:
        raise DataError(f"{entry.path}: the image file is empty: repair or remove it.")
    return status.st_size


def _link_fault(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a link that leads back to itself: repair or remove it."
    if error.errno == errno.ENOENT:
        return "is a link to a file that is not there: repair or remove it."
    return f"cannot be read: {error.strerror}."


def _holds_images(folder: Path) -> bool:
    return any(entry.name.lower().endswith(SUFFIXES) for entry in _entries(folder))


def _beside(root: Path) -> str:
    """Return a hint at the folders that are there instead of a missing one."""
    try:
        names = sorted(entry.name for entry in _entries(root.parent) if entry.is_dir())
    except OSError:
        return ""
    return f"; it holds the folders {listed(names)}" if names else ""
