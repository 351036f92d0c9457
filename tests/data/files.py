"""Tiny datasets on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image


def pixels(
    num: int, height: int = 6, width: int = 5, channels: int = 3, seed: int = 0
) -> NDArray[np.uint8]:
    """Return random images (num, channels, height, width)."""
    shape = (num, channels, height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode (channels, height, width) without loss."""
    array = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    sink = BytesIO()
    Image.fromarray(array).save(sink, "png")
    return sink.getvalue()


def write_parquet(
    file: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None],
    *,
    names: Sequence[str] | None = None,
    image_column: str = "img",
    label_column: str = "label",
    struct: bool = True,
    row_group_size: int | None = None,
) -> None:
    """Write images as Hugging Face does."""
    if struct:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        column = pa.array([{"bytes": image, "path": None} for image in images], kind)
    else:
        column = pa.array(images, pa.binary())
    table = pa.table({image_column: column, label_column: pa.array(labels, pa.int64())})
    if names is not None:
        features = {label_column: {"names": list(names), "_type": "ClassLabel"}}
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=row_group_size)


def write_folder(root: Path, part: str, images: dict[str, Sequence[NDArray[np.uint8]]]) -> None:
    """Write images by class name in ImageNet's layout."""
    for name, members in images.items():
        (root / part / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(members):
            (root / part / name / f"{number:03}.png").write_bytes(png(image))


def write_text(folder: Path, **parts: str) -> Path:
    """Write train.txt, valid.txt, test.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in parts.items():
        (folder / f"{part}.txt").write_text(text, encoding="utf-8")
    return folder
