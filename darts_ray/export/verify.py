"""The gate: the file computes what the network computes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from darts_ray.errors import ExportError
from darts_ray.export.consumer.images import OnnxNetwork
from darts_ray.export.consumer.session import open_session
from darts_ray.export.inference import ImageInference, as_images, deployed

# One more than the exporter's example batch, one less, and one with nothing in common with it.
_BATCH_SIZES = (1, 2, 7)
# Two classes whose outputs are this close are a draw, which rounding decides.
_TIE = 1e-5


@dataclass(frozen=True)
class VerifyResult:
    """What was compared.

    Attributes:
        batch_sizes: of the comparisons.
        max_difference: the largest absolute difference of any output.
        num_inputs: images, or texts, that were looked at.
    """

    batch_sizes: tuple[int, ...]
    max_difference: float
    num_inputs: int = 0


def verify_onnx(
    path: Path, network: nn.Module, images: Tensor, *, tolerance: float = 1e-4
) -> VerifyResult:
    """Compare the file with the network in torch, on all images, each batch with other ones.

    Args:
        path: what `export_onnx` wrote.
        network: what it was written from.
        images: real images, at least 7; (N, channels, height, width), uint8 or float in 0..1.
        tolerance: largest absolute difference of a logit.

    Raises:
        ExportError: the file is not valid ONNX, a logit differs by more than the tolerance, or
            another class wins.
    """
    _check_file(path)
    pixels = as_images(images)
    if len(pixels) < max(_BATCH_SIZES):
        raise ExportError(
            f"{path}: verifying needs {max(_BATCH_SIZES)} images, not {len(pixels)}."
        )
    onnx_network = OnnxNetwork(path, num_threads=1)
    inference = ImageInference(network, onnx_network.metadata)
    largest = 0.0
    for size, rows in _batches(len(pixels)):
        batch = pixels[rows]
        with torch.no_grad():
            expected = inference(batch).numpy()
        outputs = onnx_network.predict(batch)
        largest = max(largest, _compare(path, f"batch {size}", outputs, expected, tolerance))
    return VerifyResult(_BATCH_SIZES, largest, len(pixels))


def _batches(num: int) -> Iterator[tuple[int, Tensor]]:
    """Yield batch sizes in turn, each time with the images that follow, until all were seen."""
    first = 0
    for size in itertools.cycle(_BATCH_SIZES):
        yield size, torch.arange(first, first + size) % num
        first += size
        if first >= max(num, sum(_BATCH_SIZES)):
            return


def verify_recurrent_onnx(
    path: Path, network: nn.Module, tokens: Tensor, *, tolerance: float = 1e-4
) -> VerifyResult:
    """Compare the file with a `RecurrentNetwork`, over a text that is given in several pieces.

    Args:
        path: what `export_recurrent_onnx` wrote.
        network: what it was written from.
        tokens: real text, int64 (length, batch): at least 2 words, and 7 texts; of an unrolled
            file at least 2 of its pieces.
        tolerance: largest absolute difference of a log probability or hidden value.

    Raises:
        ExportError: the file is not valid ONNX, a value differs by more than the tolerance, or
            another word wins.
    """
    _check_file(path)
    length, batch = tokens.shape
    if length < 2 or batch < max(_BATCH_SIZES):
        raise ExportError(
            f"{path}: verifying needs tokens of (2, 7) or more, not {length, batch}."
        )
    session = open_session(path, num_threads=1)
    fixed = session.get_inputs()[0].shape[0]
    # The pieces differ in length where they may, and a later one starts from the hidden state of
    # the one before.
    pieces = [1, length - 1] if isinstance(fixed, str) else [fixed] * (length // fixed)
    if len(pieces) < 2:
        raise ExportError(f"{path}: verifying needs {2 * fixed} words, not {length}.")
    reference: Any = deployed(network)
    largest = 0.0
    for size in _BATCH_SIZES:
        hidden = reference.init_hidden(size)
        onnx_hidden = hidden.numpy()
        for piece in torch.split(tokens[: sum(pieces), :size].cpu(), pieces):
            with torch.no_grad():
                expected, hidden = reference(piece, hidden)
            feed = {"tokens": piece.numpy(), "hidden": onnx_hidden}
            log_probs, onnx_hidden = session.run(["log_probs", "next_hidden"], feed)
            what = f"{len(piece)} words, batch {size}"
            for actual, wanted in ((log_probs, expected), (onnx_hidden, hidden)):
                largest = max(largest, _compare(path, what, actual, wanted.numpy(), tolerance))
    return VerifyResult(_BATCH_SIZES, largest, batch)


def _check_file(path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path} is not valid ONNX: {error}") from error


def _compare(
    path: Path,
    what: str,
    actual: npt.NDArray[np.float32],
    expected: npt.NDArray[np.float32],
    tolerance: float,
) -> float:
    """Return the largest difference; both arrays have the classes or units on the last axis."""
    if actual.shape != expected.shape:
        raise ExportError(
            f"{path}: an output has the shape {actual.shape}, in torch {expected.shape} ({what})."
        )
    difference = float(np.abs(actual - expected).max())
    if not difference <= tolerance:  # also when it is NaN
        raise ExportError(
            f"{path}: outputs differ from torch by {difference:.2e} ({what}); allowed is"
            f" {tolerance:.0e} (export.tolerance)."
        )
    best = np.take_along_axis(expected, actual.argmax(-1)[..., None], -1)[..., 0]
    if (expected.max(-1) - best > _TIE).any():
        raise ExportError(f"{path}: torch predicts another class for an image ({what}).")
    return difference
