"""Reads pickles of plain results: containers, texts and numbers, and nothing that runs code."""

from __future__ import annotations

import bz2
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from darts_ray.errors import ConfigError

_PLAIN_DTYPE = re.compile(r"[fiub][1248]")

_UNREADABLE = (
    OSError,
    EOFError,
    pickle.UnpicklingError,
    # why: what the pickle machine raises on bytes that are no pickle, or a damaged one
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
)


def read_plain_pickle(path: Path) -> Any:
    """Return what a bz2-compressed pickle holds, if it is plain.

    Plain are dicts (an OrderedDict is read as one), lists, tuples, sets, texts, bytes, numbers and
    NumPy's scalars, which become Python's numbers. NumPy's arrays are passed over: their place
    holds an object without content. Nothing that the file names is ever called.

    Raises:
        ConfigError: the file cannot be read, is damaged, or names anything else.
    """
    try:
        with bz2.open(path, "rb") as stream:
            return _PlainUnpickler(stream).load()
    except _UNREADABLE as error:
        raise ConfigError(
            f"{path}: is not readable as results of NATS-Bench ({error}). Fetch the file again"
            " from where NATS-Bench publishes it; of its archives, the one whose name ends in"
            " -simple holds accuracies without weights."
        ) from error


class _DtypeName:
    """Stands for a `numpy.dtype`; holds its code, such as `f8`, and its byte order."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="


class _PassedOver:
    """Stands for an array, which no accuracy is."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _number(dtype: _DtypeName, content: bytes) -> bool | int | float:
    if not _PLAIN_DTYPE.fullmatch(dtype.code):
        raise pickle.UnpicklingError(f"a scalar of type {dtype.code!r}")
    (value,) = np.frombuffer(content, np.dtype(dtype.order + dtype.code)).tolist()
    number: bool | int | float = value
    return number


# NumPy's own functions are not called: a made-up dtype lets them read any memory
_PLAIN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": dict,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "numpy.dtype": _DtypeName,
    "numpy.ndarray": _PassedOver,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "numpy.core.multiarray._reconstruct": _PassedOver,
    "numpy._core.multiarray._reconstruct": _PassedOver,
    "numpy.core.numeric._frombuffer": _PassedOver,
    "numpy._core.numeric._frombuffer": _PassedOver,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        plain = _PLAIN.get(f"{module}.{name}")
        if plain is None:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which plain results do not hold; loading it could run"
                " code"
            )
        return plain
