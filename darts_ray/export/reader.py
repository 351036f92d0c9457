"""Use an exported file: a small onnxruntime session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from darts_ray.errors import ExportError
from darts_ray.export.inference import as_images
from darts_ray.export.metadata import ModelMetadata

Images = Tensor | npt.NDArray[np.uint8] | npt.NDArray[np.float32]


class OnnxNetwork:
    """An exported image network in onnxruntime, on the CPU.

    Args:
        path: the ONNX file.
        num_threads: of one prediction; None: onnxruntime's choice.

    Raises:
        ExportError: the file is missing, not valid ONNX, or not exported by darts_ray.
    """

    def __init__(self, path: Path, *, num_threads: int | None = None) -> None:
        self._session = open_session(path, num_threads=num_threads)
        self._metadata = ModelMetadata.from_props(
            self._session.get_modelmeta().custom_metadata_map
        )
        names = [value.name for value in self._session.get_inputs()]
        if names != ["images"]:
            raise ExportError(f"{path} is no image network: its inputs are {names}.")

    @property
    def metadata(self) -> ModelMetadata:
        """What the file says about itself."""
        return self._metadata

    @property
    def image_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images it takes."""
        _, channels, height, width = self._session.get_inputs()[0].shape
        return channels, height, width

    def predict(self, images: Images) -> npt.NDArray[np.float32]:
        """Return the logits (batch, classes).

        Args:
            images: (batch, channels, height, width), uint8 in 0..255 or float in 0..1.

        Raises:
            ExportError: the images do not have the network's size.
        """
        pixels = as_images(torch.as_tensor(images))
        if tuple(pixels.shape[1:]) != self.image_size:
            raise ExportError(
                f"The network takes images of (channels, height, width) {self.image_size}, not"
                f" {tuple(pixels.shape[1:])}."
            )
        logits: npt.NDArray[np.float32]
        (logits,) = self._session.run(["logits"], {"images": pixels.numpy()})
        return logits


def accuracy_onnx(path: Path, images: Images, labels: Tensor, *, batch_size: int = 256) -> float:
    """Return the share (0..1) of images whose largest logit is the label's.

    Args:
        path: an exported image network.
        images: as for `OnnxNetwork.predict`.
        labels: classes (N,).
        batch_size: images per prediction.
    """
    network = OnnxNetwork(path)
    right = 0
    for start in range(0, len(labels), batch_size):
        logits = network.predict(images[start : start + batch_size])
        right += int((logits.argmax(1) == labels[start : start + batch_size].cpu().numpy()).sum())
    return right / len(labels)


def open_session(path: Path, *, num_threads: int | None = None) -> Any:
    """Return an `onnxruntime.InferenceSession` on the CPU that logs errors only.

    Raises:
        ExportError: the file is missing or onnxruntime cannot read it.
    """
    import onnxruntime

    if not path.is_file():
        raise ExportError(f"{path} does not exist; export a network first.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base of their own
        raise ExportError(f"onnxruntime cannot read {path}: {error}") from error
