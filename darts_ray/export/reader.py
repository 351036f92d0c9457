"""Use an exported file: a small onnxruntime session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from darts_ray.export.metadata import ModelMetadata

Images = Tensor | npt.NDArray[np.uint8] | npt.NDArray[np.float32]


class OnnxNetwork:
    """An exported image network in onnxruntime, on the CPU.

    Args:
        path: the ONNX file.
        num_threads: None: onnxruntime's choice.
    """

    def __init__(self, path: Path, *, num_threads: int | None = None) -> None:
        raise NotImplementedError

    @property
    def metadata(self) -> ModelMetadata:
        """What the file says about itself."""
        raise NotImplementedError

    def predict(self, images: Images) -> npt.NDArray[np.float32]:
        """Return logits (batch, classes) of NCHW images: uint8 0..255 or float 0..1."""
        raise NotImplementedError


def accuracy_onnx(path: Path, images: Images, labels: Tensor, *, batch_size: int = 256) -> float:
    """Return the share (0..1) of images whose largest logit is the label's."""
    raise NotImplementedError
