"""What a network predicted in the one pass over the test set, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILE = "test_predictions.npz"
"""Name in a retraining's checkpoint folder."""


class Predictions:
    """Collects predictions batch by batch.

    From them come accuracy per class, confusions and calibration; and how many images a file that
    computes nearly the same could see otherwise, without another look at the test set.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Tensor, ...]] = []

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Take a batch: logits (batch, classes), true classes (batch,)."""
        best = logits.topk(min(2, logits.shape[1]))
        confidence = logits.double().softmax(1).amax(1).float()
        margin = best.values[:, 0] - best.values[:, -1]
        rows = (targets, best.indices[:, 0], confidence, margin.float())
        self._rows.append(tuple(value.cpu() for value in rows))

    def collected(self) -> dict[str, Tensor]:
        """Return tensors (num,) in the order of the test set.

        `label` and `predicted` (classes), `confidence` (the likeliest class's probability), and
        `margin` (by how much the largest logit exceeds the next); empty before the first batch.
        """
        names = ("label", "predicted", "confidence", "margin")
        columns = zip(*self._rows, strict=True)
        return {n: torch.cat(c) for n, c in zip(names, columns, strict=True)} if self._rows else {}


def write_predictions(folder: Path, predictions: Mapping[str, Tensor]) -> None:
    """Write `test_predictions.npz` from what `Predictions.collected` gave, if it gave anything."""
    if predictions:
        arrays = {name: value.numpy() for name, value in predictions.items()}
        np.savez_compressed(folder / FILE, allow_pickle=False, **arrays)
