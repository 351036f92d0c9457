"""Reading checkpoint files without running the code they may hold."""

from __future__ import annotations

import errno
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from darts_ray.encoding import recognise
from darts_ray.errors import CheckpointError

# What torch.save wrote before version 1.6 begins with this number, pickled.
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_REFUSED_CLASS = re.compile(r"GLOBAL ([\w.]+)")


def read_checkpoint(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read a PyTorch checkpoint of plain tensors, on the CPU and with `weights_only=True`.

    Raises:
        CheckpointError: the file is missing or unreadable, or holds pickled objects, as the
            released `ptb_model.pt` does (a whole module); the message says how to convert it.
            What torch itself says is not passed on, because it advises to run the file's code.
    """
    file = Path(path)
    head = b""
    try:
        with file.open("rb") as handle:
            head = handle.read(512)
        values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make the reader fail in any way
        # torch seeks to places before the start of a short file
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
        raise CheckpointError(f"{path} {_fault(file, head, error)}") from error
    if not isinstance(values, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(values).__name__}, not a state dict or a mapping with one."
        )
    return values


def _fault(path: Path, head: bytes, error: Exception) -> str:
    """Return what is wrong with a file that torch does not load."""
    if kind := recognise(head):
        return f"is {kind}, not a PyTorch checkpoint."
    if path.suffix.lower() == ".onnx":
        return "is an ONNX file, not a PyTorch checkpoint; `darts-ray predict` reads it."
    if head[8:10] == b'{"':
        return (
            "is a safetensors file; convert it: torch.save(safetensors.torch.load_file(PATH),"
            " NEW_PATH)."
        )
    is_zip = head.startswith(b"PK")
    if is_zip and not zipfile.is_zipfile(path):
        return "is cut short; fetch or write it again."
    if is_zip and not _holds_pickle(path):
        return "is a zip archive, but torch.save did not write it; unpack it first."
    if not is_zip and not head.startswith(_LEGACY_MAGIC):
        if head.startswith(b"\x80") and head[1:2] <= b"\x05":
            return "is a pickle, but torch.save did not write it; only tensors can be read."
        return "is not a PyTorch checkpoint."
    if match := _REFUSED_CLASS.search(str(error)):
        return (
            "does not hold plain tensors only, and loading it would run code from the file"
            f" (it holds a {match[1]}). If you trust the file and it is a whole module, convert it"
            " once where the code that saved it is importable:"
            " torch.save(torch.load(PATH, weights_only=False).state_dict(), NEW_PATH)."
        )
    return "is damaged or cut short; fetch or write it again."


def _holds_pickle(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.rpartition("/")[2] == "data.pkl" for name in archive.namelist())
