"""Image Parquet as Hugging Face writes it: a column of encoded images, a column of labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from darts_ray.config import DataConfig
from darts_ray.data.sources.base import Decoded, Labels, Part, Pixels, chosen_rows
from darts_ray.data.sources.decoding import check_shape, decode_image, stretch
from darts_ray.errors import DataError

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label")


class ParquetSource:
    """Shards named train*.parquet and test*.parquet in a folder, its data/ or another subfolder.

    Images are struct<bytes, path> or binary. Class names come from the schema's `huggingface`
    metadata; without it they are the numbers up to the largest training label.
    """

    def __init__(self, config: DataConfig) -> None:
        assert config.path is not None
        self._config = config
        self._folder = Path(config.path).expanduser()

    def files(self, part: Part) -> list[Path]:
        """Return the shards of a part, by name."""
        if not self._folder.is_dir():
            raise DataError(
                f"{self._folder}: there is no such folder. data.path must name the folder that "
                "holds train*.parquet and test*.parquet."
            )
        shards = sorted(self._folder.glob(f"{part}*.parquet"))
        if shards:
            return shards
        shards = sorted(self._folder.glob(f"*/{part}*.parquet"))
        if not shards:
            raise DataError(
                f"{self._folder}: holds no {part}*.parquet, nor does a folder in it. data.path "
                "must name the folder with the Parquet files."
            )
        folders = sorted({str(shard.parent) for shard in shards})
        if len(folders) > 1:
            raise DataError(
                f"{self._folder}: several datasets match: {', '.join(folders)}. "
                "Set data.path to one of them."
            )
        return shards

    def decode(self, part: Part) -> Decoded:
        """Read a part; labels are checked before any image is decoded."""
        shards = [_Shard(file, self._config) for file in self.files(part)]
        names = shards[0].class_names()
        labels = np.concatenate([shard.labels(names) for shard in shards])
        if len(labels) == 0:
            raise DataError(f"{self._folder}: the {part} files hold no rows.")
        if names is None:
            names = self._numbered(labels)
        maximum = self._config.max_train if part == "train" else self._config.max_test
        rows = chosen_rows(len(labels), maximum, self._config.split_seed)
        return Decoded(self._images(shards, rows), labels[rows], names)

    def _numbered(self, labels: Labels) -> tuple[str, ...]:
        num_classes = int(labels.max()) + 1
        if num_classes > len(labels):
            raise DataError(
                f"{self._folder}: the labels reach {num_classes - 1}, but there are only "
                f"{len(labels)} images: labels must count the classes from 0. Is "
                "data.label_column the right column?"
            )
        return tuple(str(label) for label in range(num_classes))

    def _images(self, shards: list[_Shard], rows: NDArray[np.int64]) -> Pixels:
        """Decode the images in the given rows, numbered over all shards."""
        images: Pixels | None = None
        done = first = 0
        for shard in shards:
            inside = rows[(rows >= first) & (rows < first + shard.num_rows)] - first
            first += shard.num_rows
            for row, encoded in shard.encoded(inside):
                where = f"{shard.path}, row {row} (the first is row 0)"
                pixels = decode_image(
                    encoded, where, self._config.channels, stretch(self._config.image_size)
                )
                if images is None:
                    images = np.empty((len(rows), *pixels.shape), dtype=np.uint8)
                check_shape(pixels.shape, images.shape[1:], where)
                images[done] = pixels
                done += 1
        assert images is not None
        return images


class _Shard:
    """One Parquet file with its two columns found."""

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: cannot be read as Parquet: {error}.") from error
        self.num_rows: int = self._file.metadata.num_rows
        self._schema = self._file.schema_arrow
        self._label = self._column("label", config.label_column, _LABEL_COLUMNS)
        if not pa.types.is_integer(self._schema.field(self._label).type):
            raise DataError(
                f"{path}: column {self._label!r} holds {self._schema.field(self._label).type}, "
                "but labels must be integers: set data.label_column."
            )
        self._image = self._column("image", config.image_column, _IMAGE_COLUMNS)
        kind = self._schema.field(self._image).type
        self._in_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if not (self._in_struct or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(
                f"{path}: column {self._image!r} holds {kind}, but images must be encoded bytes "
                "(binary, or struct<bytes, path>): set data.image_column."
            )

    def class_names(self) -> tuple[str, ...] | None:
        """Return the names in the schema's Hugging Face metadata, if there are any."""
        metadata = (self._schema.metadata or {}).get(b"huggingface")
        try:
            names = json.loads(metadata or "{}")["info"]["features"][self._label]["names"]
        except (ValueError, KeyError, TypeError):
            return None
        return tuple(str(name) for name in names)

    def labels(self, names: tuple[str, ...] | None) -> Labels:
        """Read all labels.

        Raises:
            DataError: one is missing, negative or beyond the class names.
        """
        column = self._read([self._label]).column(0)
        labels: Labels = column.cast(pa.int64()).fill_null(-1).to_numpy()
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
        return labels

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

    def _read(self, columns: list[str], group: int | None = None) -> pa.Table:
        try:
            if group is None:
                return self._file.read(columns)
            return self._file.read_row_group(group, columns)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path}: is damaged: {error}.") from error

    def _column(self, role: str, configured: str | None, usual: tuple[str, ...]) -> str:
        present = self._schema.names
        wanted = (configured,) if configured else usual
        for name in wanted:
            if name in present:
                return name
        raise DataError(
            f"{self.path}: there is no {role} column {' or '.join(map(repr, wanted))}; the "
            f"columns are: {', '.join(present)}. Set data.{role}_column."
        )
