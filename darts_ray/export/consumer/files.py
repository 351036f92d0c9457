"""Finds the pictures that a command line names: files, folders, Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from darts_ray.errors import PredictionError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
_COLUMNS = ("img", "image")


@dataclass(frozen=True)
class Found:
    """A picture: how messages and results name it, and its file or its content."""

    name: str
    source: Path | bytes


def find_pictures(places: Sequence[Path], *, column: str | None = None) -> Iterator[Found]:
    """Yield the pictures in the order of the places; a folder's by path, subfolders too.

    Args:
        places: picture files, folders, and Parquet files.
        column: of the pictures in Parquet; default: img or image.

    Raises:
        PredictionError: a place does not exist, or holds no pictures; or a column is named and no
            place holds Parquet.
    """
    if column is not None and not any(map(_holds_parquet, places)):
        raise PredictionError("--column: is for Parquet files, and none is among the inputs.")
    for place in places:
        if place.is_dir():
            yield from _in_folder(place, column)
        elif not place.is_file():
            raise PredictionError(f"{place}: there is no such file or folder.")
        elif place.suffix.lower() == ".parquet":
            yield from _in_parquet(place, column)
        else:
            yield Found(str(place), place)


def _holds_parquet(place: Path) -> bool:
    files = place.rglob("*") if place.is_dir() else (place,)
    return any(file.suffix.lower() == ".parquet" for file in files)


def _in_folder(folder: Path, column: str | None) -> Iterator[Found]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    num = 0
    for file in files:
        if file.suffix.lower() == ".parquet":
            num += 1
            yield from _in_parquet(file, column)
        elif file.suffix.lower() in SUFFIXES:
            num += 1
            yield Found(str(file), file)
    if not num:
        raise PredictionError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)} or .parquet).")


def _in_parquet(file: Path, column: str | None) -> Iterator[Found]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise PredictionError(
            f"{file}: reading Parquet needs pyarrow: pip install pyarrow."
        ) from error
    try:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        chosen = [name for name in ([column] if column else _COLUMNS) if name in names]
        if not chosen:
            raise PredictionError(
                f"{file}: has no column {column or ' or '.join(_COLUMNS)} of pictures, only"
                f" {', '.join(names)}: name it with --column."
            )
        row = 0
        for batch in table.iter_batches(batch_size=256, columns=chosen[:1]):
            for value in batch.column(0):
                content = value.as_py()
                content = content.get("bytes") if isinstance(content, dict) else content
                name = f"{file}, row {row}"
                if not isinstance(content, bytes):
                    raise PredictionError(
                        f"{name}: column {chosen[0]!r} holds no encoded picture."
                    )
                yield Found(name, content)
                row += 1
    except (pa.ArrowException, OSError) as error:
        raise PredictionError(f"{file}: cannot be read as Parquet: {error}.") from error
