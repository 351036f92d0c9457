"""The gate: the file computes what the network computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn


@dataclass(frozen=True)
class VerifyResult:
    """What was compared: batch sizes, and the largest absolute difference of an output."""

    batch_sizes: tuple[int, ...]
    max_difference: float


def verify_onnx(
    path: Path, network: nn.Module, images: Tensor, *, tolerance: float = 1e-4
) -> VerifyResult:
    """Compare the file with the network on real images (at least 7; uint8 or float 0..1, NCHW).

    Raises:
        ExportError: invalid file, logits differ by more than `tolerance`, or another class.
    """
    raise NotImplementedError


def verify_recurrent_onnx(
    path: Path, network: nn.Module, tokens: Tensor, *, tolerance: float = 1e-4
) -> VerifyResult:
    """Compare the file with a `RecurrentNetwork` over a sequence; tokens int64 (length, batch)."""
    raise NotImplementedError
