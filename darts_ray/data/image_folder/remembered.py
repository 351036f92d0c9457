"""Listings of large image folders, kept in the cache: a million files take minutes to list."""

from __future__ import annotations

import hashlib
import json
import logging
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from darts_ray.data.cache import writable, write_atomically

REMEMBERED_FROM = 20_000
"""Images; fewer are listed in less time than it is worth."""

SETTLED_S = 2.0
"""A folder that changed within this time may change again without a new time stamp."""

_FORMAT = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The images below one folder: paths relative to it, and int64 labels, by file."""

    files: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    fingerprint: str


def listing_file(cache: Path, root: Path, names: Sequence[str]) -> Path | None:
    """Return where the listing of a folder is kept, as long as its class folders stay as they are.

    An image that is added, removed, renamed or replaced by another file changes its folder. One
    that is written over in place does not, and is seen with the size that it had.

    Args:
        cache: the cache folder.
        root: the folder with the class folders.
        names: classes by label.

    Returns:
        The file, which need not exist; None if a folder has changed just now.
    """
    folders = [root / name for name in names if (root / name).is_dir()]
    times = [folder.stat().st_mtime_ns for folder in folders]
    if not times or max(times) > time.time_ns() - SETTLED_S * 1e9:
        return None
    text = json.dumps([_FORMAT, str(root), list(names), times])
    key = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    return cache / f"image_listing-{key}.npz"


def recall(file: Path) -> Listing | None:
    """Read a listing; None when it is missing or damaged (logged)."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            return Listing(content["files"], content["labels"], str(content["fingerprint"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("%s is damaged (%s): listing the images again.", file, error)
        return None


def remember(file: Path, listing: Listing) -> None:
    """Keep the listing of a large folder.

    Raises:
        DataError: the cache cannot be written.
    """
    if len(listing.files) < REMEMBERED_FROM:
        return
    with writable(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, lambda place: _save(place, listing))


def _save(place: Path, listing: Listing) -> None:
    with place.open("wb") as stream:  # given a path, NumPy would add a suffix to it
        np.savez(
            stream, files=listing.files, labels=listing.labels, fingerprint=listing.fingerprint
        )
