"""What report and model card say of the exported network beside its score."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from darts_ray.export.consumer.contract import ModelMetadata
from darts_ray.study.files.exported import SPEED_FILE
from darts_ray.study.files.study import Study
from darts_ray.study.report.figures.style import STYLE
from darts_ray.study.report.statistics.classes import ClassReport, class_report

PREDICTIONS_FILE = "test_predictions.npz"
"""Inside a retraining's checkpoint folder: what was predicted in the pass over the test set."""
MAX_CONFUSED = 30
"""Classes; a larger matrix is not readable."""


@dataclass(frozen=True)
class Tested:
    """What the one pass over the test set says of the exported network.

    Attributes:
        names: of the classes.
        num: test images.
        accuracy: of the network in torch (0..1).
        report: per class.
        file_accuracy: of the ONNX file, in the same pass (0..1); None: it was not there, as it
            was written in another form, or from a retraining that was none to export then.
        num_other: images on which the file names another class than torch; None likewise.
        num_close: images on which a file that was not there could give another class, if its
            logits differ there by as much as they did at most where both were compared: their two
            largest logits are at most twice that apart. None: not known, as torch did not test in
            the file's float32.
        example: true class of the first image, which example.png shows.
        picture: the confusion matrix (PNG); None: too many classes.
    """

    names: tuple[str, ...]
    num: int
    accuracy: float
    report: ClassReport
    file_accuracy: float | None
    num_other: int | None
    num_close: int | None
    example: str
    picture: bytes | None


def tested(study: Study) -> Tested | None:
    """Return what was predicted for the exported image network; None: that was not kept."""
    exported, folder = study.record.export, study.folder
    if exported is None or not exported.sidecar or not folder.has(exported.sidecar):
        return None
    entry = next(e for e in study.record.retrain if e.trial == exported.trial)
    place = f"{entry.checkpoint}/{PREDICTIONS_FILE}"
    if study.config.data.is_text or not folder.has(place):
        return None
    names = ModelMetadata.from_sidecar(folder.read_text(exported.sidecar)).class_names
    with np.load(io.BytesIO(folder.read_bytes(place)), allow_pickle=False) as file:
        kept = {name: file[name] for name in file.files}
    report = class_report(kept["label"], kept["predicted"], kept["confidence"], len(names))
    section = study.config.retrain
    is_float32 = section is not None and section.precision == "float32"
    close = int((kept["margin"] <= 2 * exported.max_difference).sum()) if is_float32 else None
    file_accuracy, num_other = None, None
    if "file_digest" in kept and kept["file_digest"].tobytes().hex() == exported.graph:
        file_accuracy = float((kept["label"] == kept["file_predicted"]).mean())
        num_other = int((kept["predicted"] != kept["file_predicted"]).sum())
    return Tested(
        names,
        len(kept["label"]),
        float((kept["label"] == kept["predicted"]).mean()),
        report,
        file_accuracy,
        num_other,
        close,
        names[int(kept["label"][0])],
        draw_confusion(report.confusion, names) if len(names) <= MAX_CONFUSED else None,
    )


def speed(study: Study) -> dict[str, Any] | None:
    """Return the latencies that the export measured; None: it measured none."""
    if study.record.export is None or not study.folder.has(SPEED_FILE):
        return None
    content: dict[str, Any] = json.loads(study.folder.read_text(SPEED_FILE))
    return content


def onnx_accuracy(result: Tested) -> str:
    """Say what the ONNX file's test accuracy is, without a second look at the test set."""
    score = f"{100 * result.accuracy:.2f} %"
    if result.file_accuracy is not None:
        return (
            f"Test accuracy of the ONNX file itself: {100 * result.file_accuracy:.2f} %, of the"
            f" network in torch {score}, in the same pass over the test set; they name another"
            f" class on {result.num_other} of its {result.num} images."
        )
    if result.num_close is None:
        return (
            f"The test ran in bfloat16 ({score}) and the ONNX file computes in float32, so its"
            " accuracy may differ slightly."
        )
    if not result.num_close:
        return (
            f"The ONNX file has the same test accuracy, {score}: none of the {result.num} test"
            " images has two classes so close that the largest difference from torch, where both"
            " were compared, could swap them."
        )
    bound = 100 * result.num_close / result.num
    return (
        f"The ONNX file's test accuracy is {score}, give or take {bound:.2f} points: on"
        f" {result.num_close} of the {result.num} test images two classes are so close that the"
        " largest difference from torch, where both were compared, could swap them."
    )


def draw_confusion(confusion: NDArray[np.int64], names: Sequence[str]) -> bytes:
    """Draw how often each class was taken for which (PNG); shares of a row are its colours.

    Args:
        confusion: (classes, classes), true class by prediction.
        names: of the classes.
    """
    number = len(names)
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = 1.4 + 0.34 * number
    with mpl.rc_context({**STYLE, "font.size": 7.5, "axes.grid": False}):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(number), names, rotation=90)
        axes.set_yticks(range(number), names)
        axes.set(xlabel="prediction", ylabel="true class")
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "#1f2933"
            text = str(confusion[row, column])
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=6)
        sink = io.BytesIO()
        figure.savefig(sink, format="png", dpi=140)
    return sink.getvalue()
