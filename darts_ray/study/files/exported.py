"""What the export stage leaves in the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Int8File:
    """The int8 file, or why there is none.

    Attributes:
        error: why no file was written; the other fields are then empty.
        accuracy: 0..1, on the images it was judged on.
        float_accuracy: of the float file on the same images.
        judged_on: which images those were.
    """

    error: str | None = None
    file: str | None = None
    size_bytes: int = 0
    accuracy: float | None = None
    float_accuracy: float | None = None
    judged_on: str = ""


@dataclass(frozen=True)
class Exported:
    """The exported files, and what they were compared on.

    Attributes:
        file: the ONNX file in the study folder.
        trial: the retraining it was made from.
        seed: of that retraining.
        opset: of its operators.
        tolerance: largest difference from torch that was allowed.
        max_difference: the largest that was found.
        batch_sizes: of the comparison.
        checked_on: what was compared.
        size_bytes: of the file.
        int8: the int8 file; None: not asked for.
        registered: where in the model registry.
        reason: why this retraining was exported.
    """

    file: str
    trial: str
    seed: int
    opset: int
    tolerance: float
    max_difference: float
    batch_sizes: tuple[int, ...]
    checked_on: str
    size_bytes: int
    int8: Int8File | None = None
    registered: str | None = None
    reason: str = ""


_ADAPTER: TypeAdapter[Exported] = TypeAdapter(Exported)


def exported_from(values: Mapping[str, Any], reason: str) -> Exported:
    """Return what the export found, with the reason why it was this network."""
    return _ADAPTER.validate_python({**values, "reason": reason})
