"""A disk that has become full: the study's own, or the one where checkpoints are put together."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.fs

from darts_ray.errors import CheckpointError, StorageError

FULL_DISK_BYTES = 1 << 20
"""A disk with less room than this counts as full."""


def is_full(fs: pyarrow.fs.FileSystem, path: str) -> bool:
    """Tell whether a local disk has no room left; of an object store one never knows."""
    return isinstance(fs, pyarrow.fs.LocalFileSystem) and _has_no_room(path)


def full_disk(storage: str) -> StorageError:
    """Return the error of a study whose disk is full."""
    return StorageError(
        f"The disk that holds {storage} is full, so trials could not go on. Make room on it, then"
        f" continue from the last checkpoints: darts-ray resume {storage}"
    )


@contextmanager
def temporary_folder() -> Iterator[str]:
    """Make a folder in which a checkpoint is put together, and remove it at any rate.

    Tune's own stays behind when the storage fails.

    Raises:
        StorageError: the folder's disk is full.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            yield folder
        except (OSError, CheckpointError) as error:
            if not _has_no_room(folder):
                raise
            raise StorageError(
                f"The temporary disk of {socket.gethostname()}, which holds"
                f" {Path(folder).parent}, is full, so checkpoints cannot be put together there."
                " Make room on it, or let TMPDIR name another disk, then continue from the last"
                " checkpoints with `darts-ray resume`."
            ) from error


def _has_no_room(path: str) -> bool:
    return shutil.disk_usage(path).free < FULL_DISK_BYTES
