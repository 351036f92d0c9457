"""One Parquet file: its column of encoded images and its column of labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darts_ray.config import DataConfig
from darts_ray.data.sources.base import Labels
from darts_ray.encoding import recognise
from darts_ray.errors import DataError

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label")


@dataclass(frozen=True)
class ShardLabels:
    """The labels of one file.

    Attributes:
        labels: int64 (num,); positions in `names` where there are names.
        names: of the classes, by label; None where the labels are bare numbers.
        declared: whether the names are the file's list of all classes, and not just those that
            occur in it.
    """

    labels: Labels
    names: tuple[str, ...] | None
    declared: bool


class ParquetShard:
    """One Parquet file with its two columns.

    Raises:
        DataError: it is no Parquet file, or a column is missing, ambiguous or of a wrong type.
    """

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{path}: cannot be read as Parquet: {_reason(path, error)}"
            ) from error
        self.num_rows: int = self._file.metadata.num_rows
        self._schema = self._file.schema_arrow
        self._label = self._column("label", config.label_column, _LABEL_COLUMNS)
        self._label_kind = self._type(self._label)
        if not _is_label(self._label_kind):
            raise DataError(
                f"{path}: column {self._label!r} holds {self._label_kind}, but labels must be"
                " integers or class names: convert it, or set data.label_column."
            )
        self._image = self._column("image", config.image_column, _IMAGE_COLUMNS)
        kind = self._type(self._image)
        self._in_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if not (self._in_struct or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(
                f"{path}: column {self._image!r} holds {kind}, but images must be encoded bytes "
                "(binary, or struct<bytes, path>): set data.image_column."
            )

    def labels(self) -> ShardLabels:
        """Read all labels.

        Raises:
            DataError: one is missing, negative or beyond the class names.
        """
        column = self._read([self._label]).column(0)
        kind = self._label_kind
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if pa.types.is_boolean(kind):
            column, kind = column.cast(pa.string()), pa.string()
        if not pa.types.is_integer(kind):
            return self._named(column)
        names = self._declared_names()
        # unsigned numbers beyond int64 become negative, and are then told by their value
        labels: Labels = column.cast(pa.int64(), safe=False).fill_null(-1).to_numpy()
        limit = len(names) if names else np.iinfo(np.int64).max
        wrong = np.flatnonzero((labels < 0) | (labels >= limit))
        if len(wrong):
            row = int(wrong[0])
            valid = f"0 to {limit - 1}" if names else "0 and above"
            raise DataError(
                f"{self.path}, row {row} (the first is row 0): the label {column[row].as_py()} in "
                f"column {self._label!r} is out of range; valid labels are {valid}. A part "
                "without labels cannot be used."
            )
        return ShardLabels(labels, names, declared=names is not None)

    def encoded(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        """Yield row number and encoded image for ascending rows, few in memory at a time."""
        first = 0
        for group in range(self._file.num_row_groups):
            last = first + self._file.metadata.row_group(group).num_rows
            inside = rows[(rows >= first) & (rows < last)]
            if len(inside):
                column = self._read([self._image], group).column(0).take(inside - first)
                if self._in_struct:
                    column = pc.struct_field(column, "bytes")
                for row, value in zip(inside.tolist(), column, strict=True):
                    if not value.is_valid:
                        raise DataError(
                            f"{self.path}, row {row} (the first is row 0): column "
                            f"{self._image!r} holds no bytes. Write the images into the file."
                        )
                    yield row, value.as_py()
            first = last

    def _named(self, column: pa.ChunkedArray) -> ShardLabels:
        """Number class names in sorted order."""
        texts = column.cast(pa.large_string()).to_numpy()
        for row, text in enumerate(texts):
            if text is None or not text.strip():
                raise DataError(
                    f"{self.path}, row {row} (the first is row 0): column {self._label!r} holds"
                    " no class name. A part without labels cannot be used."
                )
        names, labels = np.unique(texts.astype(str), return_inverse=True)
        return ShardLabels(labels.astype(np.int64), tuple(names.tolist()), declared=False)

    def _declared_names(self) -> tuple[str, ...] | None:
        """Return the names in the schema's Hugging Face metadata, if there are any."""
        metadata = (self._schema.metadata or {}).get(b"huggingface")
        try:
            names: Any = json.loads(metadata or "{}")["info"]["features"][self._label]["names"]
        except (ValueError, KeyError, TypeError):
            return None
        if names is None or names == []:
            return None
        if not isinstance(names, list) or not all(isinstance(n, str | int) for n in names):
            raise DataError(
                f"{self.path}: its metadata name the classes of column {self._label!r} {names!r},"
                " but each class needs a name: write the file again, or remove the metadata and"
                " set data.class_names."
            )
        texts = tuple(str(name) for name in names)
        if len(set(texts)) < len(texts):
            twice = next(name for name in texts if texts.count(name) > 1)
            raise DataError(
                f"{self.path}: its metadata give two classes of column {self._label!r} the name"
                f" {twice!r}: give each class its own."
            )
        return texts

    def _read(self, columns: list[str], group: int | None = None) -> pa.Table:
        try:
            if group is None:
                return self._file.read(columns)
            return self._file.read_row_group(group, columns)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path}: is damaged: {error}.") from error

    def _column(self, role: str, configured: str | None, usual: tuple[str, ...]) -> str:
        present = self._schema.names
        names = (configured,) if configured else usual
        for name in names:
            if present.count(name) > 1:
                raise DataError(
                    f"{self.path}: there are {present.count(name)} columns named {name!r}: rename"
                    f" all but one, or set data.{role}_column."
                )
            if name in present:
                return name
        raise DataError(
            f"{self.path}: there is no {role} column {' or '.join(map(repr, names))}; the "
            f"columns are: {', '.join(present)}. Set data.{role}_column."
        )

    def _type(self, column: str) -> pa.DataType:
        return self._schema.field(self._schema.get_field_index(column)).type


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        pa.types.is_integer,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
    )
    return any(test(kind) for test in tests)


def _reason(path: Path, error: Exception) -> str:
    """Return why a file is not Parquet, in words where its kind is known."""
    try:
        with path.open("rb") as file:
            kind = recognise(file.read(512))
    except OSError:
        kind = None
    return f"it is {kind}" if kind and kind != "a Parquet file" else str(error)
