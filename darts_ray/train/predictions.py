"""What a network predicted in the one pass over the test set, image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILE = "test_predictions.npz"
"""Name in a retraining's checkpoint folder."""


@dataclass(frozen=True)
class Deployed:
    """A file that was made of the network, and computes the same in another runtime.

    Attributes:
        classes: maps images, uint8 (batch, channels, height, width), to what the file takes them
            for: classes, int64 (batch,) on the CPU.
        digest: of what the file computes; it tells later which file that was.
    """

    classes: Callable[[Tensor], Tensor]
    digest: bytes


class Predictions:
    """Collects predictions batch by batch.

    From them come accuracy per class, confusions and calibration; and the accuracy of the file
    that is deployed, without another look at the test set.

    Args:
        deployed: sees the same images in the same pass; None: there is no file.
    """

    def __init__(self, deployed: Deployed | None = None) -> None:
        self._deployed = deployed
        self._rows: list[tuple[Tensor, ...]] = []
        self._deployed_rows: list[Tensor] = []
        self._example: Tensor | None = None

    def add_pixels(self, images: Tensor) -> None:
        """Take a batch, uint8 (batch, channels, height, width): the file sees it too."""
        if self._example is None and len(images):
            self._example = images[0].cpu().contiguous().clone()
        if self._deployed is not None:
            self._deployed_rows.append(self._deployed.classes(images))

    def add(self, logits: Tensor, targets: Tensor) -> None:
        """Take a batch: logits (batch, classes), true classes (batch,)."""
        best = logits.topk(min(2, logits.shape[1]))
        confidence = logits.double().softmax(1).amax(1).float()
        margin = best.values[:, 0] - best.values[:, -1]
        rows = (targets, best.indices[:, 0], confidence, margin.float())
        self._rows.append(tuple(value.cpu() for value in rows))

    def collected(self) -> dict[str, Tensor]:
        """Return tensors (num,) in the order of the test set; none before the first batch.

        `label` and `predicted` (classes), `confidence` (the likeliest class's probability), and
        `margin` (by how much the largest logit exceeds the next); the first image as `example`,
        uint8 (channels, height, width). Of a deployed file also `file_predicted` (classes), and
        its digest as `file_digest`, uint8 (bytes,).
        """
        if not self._rows:
            return {}
        names = ("label", "predicted", "confidence", "margin")
        columns = zip(*self._rows, strict=True)
        found = {name: torch.cat(column) for name, column in zip(names, columns, strict=True)}
        if self._example is not None:
            found["example"] = self._example
        if self._deployed is not None:
            found["file_predicted"] = torch.cat(self._deployed_rows)
            found["file_digest"] = torch.tensor(list(self._deployed.digest), dtype=torch.uint8)
        return found


def write_predictions(folder: Path, predictions: Mapping[str, Tensor]) -> None:
    """Write `test_predictions.npz` from what `Predictions.collected` gave, if it gave anything."""
    if predictions:
        arrays = {name: value.numpy() for name, value in predictions.items()}
        np.savez_compressed(folder / FILE, allow_pickle=False, **arrays)
