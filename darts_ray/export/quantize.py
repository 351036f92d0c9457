"""int8 files: BN folding that the tool misses, static quantisation, and an accuracy gate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor


@dataclass(frozen=True)
class QuantizeResult:
    """Held-out accuracy (0..1) and file size before and after."""

    accuracy: float
    int8_accuracy: float
    size_bytes: int
    int8_size_bytes: int


def quantize_onnx(
    path: Path,
    out: Path,
    *,
    calibration: Tensor,
    images: Tensor,
    labels: Tensor,
    max_accuracy_drop: float,
) -> QuantizeResult:
    """Write an int8 (QDQ, per channel) version of an exported image network.

    Args:
        path: the float file.
        out: the int8 file; written only if it passes.
        calibration: real images (N, C, H, W), uint8 or float 0..1; not those it is judged on.
        images: held-out images, same format.
        labels: their classes (N,).
        max_accuracy_drop: in 0..1.

    Raises:
        ExportError: accuracy drops by more than that.
    """
    raise NotImplementedError
