"""How well each class is recognised, from the predictions of the one pass over the test set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BINS = 15


@dataclass(frozen=True)
class ClassReport:
    """What the predictions say beyond their accuracy.

    Attributes:
        confusion: (classes, classes), how often the row's class was taken for the column's.
        accuracy: per class (0..1); NaN for a class that does not occur.
        calibration_error: expected calibration error: how far, on average over the images, a
            prediction's confidence is from the accuracy of predictions as confident (15 bins of
            equal width; Guo et al., 2017).
    """

    confusion: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    calibration_error: float


def class_report(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    confidence: NDArray[np.float64],
    num_classes: int,
) -> ClassReport:
    """Summarise predictions.

    Args:
        labels: true classes (num,).
        predicted: likeliest classes (num,).
        confidence: their probability (num,), 0..1.
        num_classes: also those that do not occur.
    """
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    confusion = flat.reshape(num_classes, num_classes)
    num = confusion.sum(1)
    accuracy = np.divide(
        confusion.diagonal(), num, out=np.full(num_classes, np.nan), where=num > 0
    )
    right = (labels == predicted).astype(float)
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, right - confidence, minlength=_BINS)
    return ClassReport(confusion, accuracy, float(np.abs(gaps).sum() / len(labels)))
