"""Checkpoint folders that show whether they are whole, and the one to go on from.

Ray copies a checkpoint to its place file by file, so a killed process or a full disk leaves a
folder with files missing or cut short. A manifest with every file's size and SHA-256 makes such
a folder recognisable, wherever it lies. That a storage cannot be read now is no damage: it is
tried again, and then it is an error of its own, after which nothing is begun anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.fs

from darts_ray.errors import CheckpointError
from darts_ray.location import with_patience

MANIFEST = "manifest.json"
HISTORY = "history.json"
CONFIG = "config.json"
DAMAGED = "damaged_checkpoints"
"""Key in the metrics of a checkpoint that a resume chose: how many newer ones are damaged."""
TEST_ERROR = "test_error"
"""Key in the metrics of a last epoch: why the test failed, after the training had succeeded."""
_NAME = re.compile(r"checkpoint_(\d{6})")


class DamagedCheckpointError(CheckpointError):
    """A checkpoint folder is incomplete or altered; an earlier one may be whole."""


def seal(folder: Path) -> None:
    """Write the manifest of a finished checkpoint folder."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path.read_bytes())}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    (folder / MANIFEST).write_text(json.dumps(files), encoding="utf-8")


def check_sealed(fs: pyarrow.fs.FileSystem, folder: str, *, content: bool = True) -> None:
    """Compare a checkpoint folder with its manifest.

    Args:
        fs: where the folder lies.
        folder: its path there.
        content: also read every file and compare its hash; otherwise sizes only.

    Raises:
        DamagedCheckpointError: a file is missing, cut short or altered; the message names it.
        StorageError: the storage fails, which says nothing about the folder.
    """
    for name, expected in _read_json(fs, folder, MANIFEST).items():
        path = f"{folder}/{name}"
        info = with_patience(partial(fs.get_file_info, path), path)
        if info.type != pyarrow.fs.FileType.File:
            raise DamagedCheckpointError(f"{path}: is missing.")
        if info.size != expected["bytes"]:
            raise DamagedCheckpointError(
                f"{path}: has {info.size} bytes instead of {expected['bytes']}."
            )
        if content and _sha256(_read(fs, path)) != expected["sha256"]:
            raise DamagedCheckpointError(f"{path}: its content was altered.")


def read_history(fs: pyarrow.fs.FileSystem, folder: str) -> list[dict[str, Any]]:
    """Return the metrics of every epoch up to a checkpoint.

    Raises:
        DamagedCheckpointError: the file is missing or unreadable.
    """
    history = _read_json(fs, folder, HISTORY)
    assert isinstance(history, list)
    return history


def read_config(fs: pyarrow.fs.FileSystem, folder: str) -> dict[str, Any]:
    """Return the values that a trial had when the checkpoint was written.

    Raises:
        DamagedCheckpointError: the file is missing or unreadable.
    """
    config = _read_json(fs, folder, CONFIG)
    assert isinstance(config, dict)
    return config


def list_checkpoints(fs: pyarrow.fs.FileSystem, trial_folder: str) -> list[str]:
    """Return the paths of a trial's checkpoint folders, oldest first, whole or not."""
    selector = pyarrow.fs.FileSelector(trial_folder, allow_not_found=True)
    infos = with_patience(lambda: fs.get_file_info(selector), trial_folder)
    paths = [info.path for info in infos if _NAME.fullmatch(info.base_name)]
    return sorted(paths, key=checkpoint_index)


def checkpoint_index(folder: str) -> int:
    """Return the number in a checkpoint folder's name."""
    return int(folder.rpartition("_")[2])


def replacements(fs: pyarrow.fs.FileSystem, folder: str) -> list[str]:
    """Return the same trial's other checkpoint folders in the order they should be tried.

    First those from before, newest first. Later ones only serve where a scheduler wants another
    trial's checkpoint that this trial has replaced in the meantime.
    """
    parent, _, name = folder.rpartition("/")
    if not _NAME.fullmatch(name):
        return []
    index = checkpoint_index(name)
    others = list_checkpoints(fs, parent)
    older = [path for path in others if checkpoint_index(path) < index]
    newer = [path for path in others if checkpoint_index(path) > index]
    return [*reversed(older), *newer]


def _read_json(fs: pyarrow.fs.FileSystem, folder: str, name: str) -> Any:
    path = f"{folder}/{name}"
    try:
        return json.loads(_read(fs, path))
    except ValueError as error:
        raise DamagedCheckpointError(f"{path}: is cut short or altered ({error}).") from error


def _read(fs: pyarrow.fs.FileSystem, path: str) -> bytes:
    try:
        return with_patience(lambda: read_file(fs, path), path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise DamagedCheckpointError(f"{path}: is missing.") from error


def read_file(fs: pyarrow.fs.FileSystem, path: str) -> bytes:
    """Return a file's content."""
    with fs.open_input_stream(path, compression=None) as stream:
        return bytes(stream.read())


def replace_file(fs: pyarrow.fs.FileSystem, path: str, content: bytes) -> None:
    """Write a file whole: who reads it meanwhile sees the old content or the new."""
    with fs.open_output_stream(f"{path}.tmp", compression=None) as stream:
        stream.write(content)
    fs.move(f"{path}.tmp", path)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
