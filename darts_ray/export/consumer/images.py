"""Use an exported image network: pictures or arrays in, classes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from darts_ray.errors import PredictionError
from darts_ray.export.consumer.contract import ModelMetadata, PictureRule
from darts_ray.export.consumer.pictures import Picture, picture_pixels
from darts_ray.export.consumer.session import open_session, read_metadata

Floats = npt.NDArray[np.float32]
Batch = npt.NDArray[Any]  # uint8 or float32

# How far a value may lie outside of 0..1: rounding, and what a sharp resize overshoots.
_SLACK = 0.05


@dataclass(frozen=True)
class Prediction:
    """A class and how likely it is (0..1)."""

    label: str
    probability: float


class OnnxNetwork:
    """An exported image network in onnxruntime, on the CPU.

    It needs onnxruntime, numpy and Pillow, and applies what the file says about its input.

    Args:
        path: the ONNX file.
        num_threads: of one prediction; None: onnxruntime's choice.
        simulated: see `open_session`; slower, and the same on every machine.

    Raises:
        PredictionError: the file is missing, not valid ONNX, or not exported by darts_ray.
    """

    def __init__(
        self, path: str | Path, *, num_threads: int | None = None, simulated: bool = False
    ) -> None:
        self._session = open_session(Path(path), num_threads=num_threads, simulated=simulated)
        self._metadata = read_metadata(self._session, Path(path))
        names = [value.name for value in self._session.get_inputs()]
        if names != ["images"]:
            raise PredictionError(f"{path} is no image network: its inputs are {names}.")
        self._output = self._session.get_outputs()[0].name

    @property
    def metadata(self) -> ModelMetadata:
        """What the file says about itself."""
        return self._metadata

    @property
    def rule(self) -> PictureRule:
        """How pictures become inputs; files of older versions take their own size only."""
        return self._metadata.pictures or PictureRule()

    @property
    def image_size(self) -> tuple[int, int, int]:
        """(channels, height, width) of the images it takes."""
        _, *axes = self._session.get_inputs()[0].shape
        if self._metadata.layout == "NHWC":
            height, width, channels = axes
        else:
            channels, height, width = axes
        return channels, height, width

    def predict(self, images: Any) -> Floats:
        """Return the outputs (batch, classes): logits, unless the file was told otherwise.

        Args:
            images: a batch of the axes (batch, channels, height, width), uint8 in 0..255 or
                float in 0..1; or one or several pictures: paths, Pillow images, a file's bytes,
                or uint8 arrays (height, width[, channels]), of any size that the file's rule
                allows.

        Raises:
            PredictionError: the images have not the network's size or range, or cannot be decoded.
        """
        return self.run(self.prepare(images))

    def probabilities(self, images: Any) -> Floats:
        """Return the probability of every class (batch, classes); `images` as for `predict`."""
        outputs = self.predict(images)
        if self._metadata.output == "probabilities":
            return outputs
        powers = np.exp(outputs - outputs.max(1, keepdims=True))
        shares: Floats = powers / powers.sum(1, keepdims=True)
        return shares

    def classify(self, images: Any, *, top: int = 5) -> list[list[Prediction]]:
        """Return for each image its likeliest classes, the best first; images as for `predict`."""
        names = self._metadata.class_names
        return [
            [Prediction(names[index], float(row[index])) for index in np.argsort(-row)[:top]]
            for row in self.probabilities(images)
        ]

    def run(self, batch: Batch) -> Floats:
        """Return the outputs for a batch that is already what the graph takes."""
        outputs: Floats
        (outputs,) = self._session.run([self._output], {"images": batch})
        return outputs

    def prepare(self, images: Any) -> Batch:
        """Return what the graph takes; `images` and errors as for `predict`."""
        if hasattr(images, "detach"):  # a tensor, without torch being needed
            images = images.detach().cpu().numpy()
        if isinstance(images, np.ndarray) and images.ndim == 4:
            batch = self._checked(images)
        else:
            if isinstance(images, np.ndarray) and (images.ndim == 1 or images.dtype != np.uint8):
                raise PredictionError(
                    "Images must have the axes NCHW, or be uint8 (height, width[, channels]), not"
                    f" {images.dtype} of the shape {images.shape}."
                )
            single = isinstance(images, str | Path | bytes | Image.Image | np.ndarray)
            batch = self._pictures([images] if single else images)
        return self._as_input(batch)

    def _pictures(self, pictures: Sequence[Picture]) -> Batch:
        channels, height, width = self.image_size
        pixels = [picture_pixels(item, self.rule, channels, (height, width)) for item in pictures]
        if not pixels:
            raise PredictionError("There are no images to predict.")
        return np.stack(pixels)

    def _checked(self, images: Batch) -> Batch:
        """Return a batch NCHW after a look at its size and range."""
        if images.shape[1:] != self.image_size:
            raise PredictionError(
                f"The network takes images of (channels, height, width) {self.image_size}, not"
                f" {images.shape[1:]}."
            )
        if images.dtype == np.uint8 or not images.size:
            return images
        if not np.issubdtype(images.dtype, np.floating):
            raise PredictionError(
                f"Images must be uint8 in 0..255 or float in 0..1, not {images.dtype}."
            )
        low, high = float(images.min()), float(images.max())
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            raise PredictionError(
                f"The images hold values from {low:g} to {high:g}, but floats must lie in 0..1"
                " and are normalised by the network itself: divide bytes by 255, or give them as"
                " uint8."
            )
        return images.astype(np.float32)

    def _as_input(self, batch: Batch) -> Batch:
        if self._metadata.dtype != "uint8":
            return batch.astype(np.float32) / 255 if batch.dtype == np.uint8 else batch
        if batch.dtype != np.uint8:
            batch = np.rint(np.clip(batch, 0, 1) * 255).astype(np.uint8)
        return np.ascontiguousarray(batch.transpose(0, 2, 3, 1))


def accuracy_onnx(
    path: Path, images: Any, labels: Any, *, batch_size: int = 256, simulated: bool = False
) -> float:
    """Return the share (0..1) of images whose largest output is the label's.

    Args:
        path: an exported image network.
        images: a batch as for `OnnxNetwork.predict`.
        labels: classes (N,).
        batch_size: images per prediction.
        simulated: see `open_session`.
    """
    network = OnnxNetwork(path, simulated=simulated)
    right = 0
    for start in range(0, len(labels), batch_size):
        outputs = network.predict(images[start : start + batch_size])
        right += int((outputs.argmax(1) == np.asarray(labels[start : start + batch_size])).sum())
    return right / len(labels)
