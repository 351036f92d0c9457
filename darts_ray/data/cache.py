"""The decoded cache: one Arrow IPC file per dataset part, shared by all processes of a node.

Decoding CIFAR-10 costs many seconds and a process of its own a copy of the pixels; the cache file
is written once and then memory-mapped, so it opens in milliseconds and its pages are shared.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from darts_ray.data.normalisation import count_values, pixel_statistics
from darts_ray.data.sources import Decoded
from darts_ray.errors import DataError

FORMAT = 2  # raise it when the layout below changes: older files are then not looked at
# What reading the wrong kind of content can raise.
_SHAPE_ERRORS = (ValueError, LookupError, TypeError, AttributeError, RuntimeError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedImages:
    """A mapped cache file; the attributes are those of `ImageSplit` and `ImageInfo`."""

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str


class CacheFileError(Exception):
    """A cache file is truncated or holds something else than was written."""


def cache_folder(configured: str | None) -> Path:
    """Return the folder of the cache: the configured one, or ~/.cache/darts_ray."""
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "darts_ray"


def cached_images(folder: Path, key: str, decode: Callable[[], Decoded]) -> CachedImages:
    """Open a cache file; the first process to need it writes it, others wait.

    Args:
        folder: of the cache; made when missing.
        key: names the file; changes with the data and with all settings that shape the pixels.
        decode: makes the content.

    Raises:
        DataError: from `decode`, or the folder cannot be written.
    """
    file = folder / f"{key}.arrow"
    if (cached := _open_sound(file)) is not None:
        return cached
    with _locked(folder, key):
        # Another process may have written it while this one waited.
        if (cached := _open_sound(file)) is None:
            decoded = decode()
            with writable(folder):
                write_atomically(file, lambda temporary: _write(temporary, decoded))
                cached = _open(file)
    return cached


def cached_json(folder: Path, key: str, make: Callable[[], object]) -> Any:
    """Recall a small value, or make it and remember it; others wait for the process that makes it.

    Raises:
        DataError: from `make`, or the folder cannot be written.
    """
    file = folder / f"{key}.json"
    if (text := _sound_json(file)) is None:
        with _locked(folder, key):
            if (text := _sound_json(file)) is None:
                made = text = json.dumps(make())
                with writable(folder):
                    write_atomically(file, lambda temporary: temporary.write_text(made))
    return json.loads(text)


def _sound_json(file: Path) -> str | None:
    """Read a small value; None when it is missing or damaged (logged)."""
    try:
        text = file.read_text()
        json.loads(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s is damaged (%s): making it again.", file, error)
        return None
    return text


@contextmanager
def _locked(folder: Path, key: str) -> Iterator[None]:
    """Keep other processes from making the same file; errors of the block stay what they are."""
    lock = FileLock(folder / f"{key}.lock")
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turn what the system says against writing into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: the data cache cannot be written: {error}. "
            "Set data.cache_dir to a folder with room."
        ) from error


def write_atomically(file: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then give it its final name."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _open_sound(file: Path) -> CachedImages | None:
    """Open a cache file; None when it is missing or damaged (logged)."""
    try:
        return _open(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, CacheFileError) as error:
        _log.warning("%s is damaged (%s): decoding the data again.", file, error)
        return None


def _write(file: Path, decoded: Decoded) -> None:
    images = np.ascontiguousarray(decoded.images)
    counts = sum(
        (count_values(images[i : i + 1024]) for i in range(0, len(images), 1024)),
        np.zeros((images.shape[1], 256), dtype=np.int64),
    )
    mean, std = pixel_statistics(counts)
    digest = hashlib.blake2b(images.data, digest_size=16)
    digest.update(decoded.labels.tobytes())
    digest.update("\n".join(decoded.class_names).encode())
    about = {
        "class_names": decoded.class_names,
        "mean": mean,
        "std": std,
        "fingerprint": digest.hexdigest(),
        "checksum": [_checksum(images.reshape(-1)), _checksum(decoded.labels.view(np.uint8))],
    }
    kind = pa.fixed_shape_tensor(pa.uint8(), images.shape[1:])
    pixels = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), images[0].size)
    tensors = pa.ExtensionArray.from_storage(kind, pixels)
    schema = pa.schema(
        [("image", kind), ("label", pa.int64())],
        metadata={"darts_ray": json.dumps(about)},
    )
    # One record batch: then the pixels of all images lie in one contiguous buffer.
    batch = pa.record_batch([tensors, pa.array(decoded.labels)], schema=schema)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)


def _open(file: Path) -> CachedImages:
    with file.open("rb") as handle:
        try:
            # Copy on write: torch gets ordinary writable memory (it warns of any other), pages
            # stay shared between processes, and a stray write can never reach the file.
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
            batch = pa.ipc.open_file(pa.py_buffer(mapped)).get_batch(0)
            about = json.loads(batch.schema.metadata[b"darts_ray"])
            shape = (batch.num_rows, *batch.schema.field("image").type.shape)
            images = from_dlpack(batch.column("image").storage.flatten()).view(shape)
            labels = from_dlpack(batch.column("label"))
            found = [
                _checksum(images.view(-1).numpy()),
                _checksum(labels.view(torch.uint8).numpy()),
            ]
            expected = about["checksum"]
        except (pa.ArrowException, *_SHAPE_ERRORS) as error:
            raise CacheFileError(str(error)) from error
    if found != expected:
        raise CacheFileError("its checksum is wrong")
    return CachedImages(
        images,
        labels,
        tuple(about["class_names"]),
        tuple(about["mean"]),
        tuple(about["std"]),
        about["fingerprint"],
    )


def _checksum(data: NDArray[np.uint8]) -> int:
    """Add up the 64-bit words modulo 2**64: as fast as memory, and any one change shows."""
    whole = len(data) // 8 * 8
    total = data[:whole].view(np.uint64).sum(dtype=np.uint64)
    return (int(total) + int.from_bytes(data[whole:].tobytes(), "little")) % 2**64
