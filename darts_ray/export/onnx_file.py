"""From a trained network to one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from darts_ray.export.metadata import ModelMetadata


def export_onnx(
    network: nn.Module,
    path: Path,
    *,
    example_size: tuple[int, int, int],
    metadata: ModelMetadata,
    opset: int = 20,
) -> None:
    """Write an image network; input `images` float32 (batch, channels, height, width) in 0..1.

    Args:
        network: maps normalised images to logits; left as it was found.
        path: the file, replaced atomically.
        example_size: (channels, height, width).
        metadata: its mean and std go into the graph.
        opset: of the standard operators.

    Raises:
        ExportError: torch cannot export the network, or not at this opset.
    """
    raise NotImplementedError


def export_recurrent_onnx(
    network: nn.Module, path: Path, *, metadata: ModelMetadata, opset: int = 20
) -> None:
    """Write a `RecurrentNetwork`."""
    raise NotImplementedError


def load_proto(path: Path) -> Any:
    """Return the file as an `onnx.ModelProto`."""
    raise NotImplementedError
