"""Several images side by side in one channel block, where each has few channels.

A vector register holds 16 numbers. With channels last in memory, an image of 4 channels leaves
three quarters of it idle in convolutions and small matrix products. All operations of an edge
treat every image alike, so the channels of four images may stand where one image of 16 would be:

    (batch, C, height, width)  ->  (batch / F, F * C, height, width)

Depthwise weights are repeated F times, matrices stand in F blocks on a diagonal, and batch
statistics are those of all F blocks together (see `pointwise_norm`).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from darts_ray.nn.conv.fused.pointwise_norm import EPSILON

_REGISTER = 16
"""Numbers of 32 bits that a vector register of a CPU holds with AVX-512."""


def folds_of(x: Tensor) -> int:
    """Return how many images (batch, C, height, width) to put side by side; 1 on a GPU."""
    return math.gcd(len(x), max(1, _REGISTER // x.shape[1])) if x.device.type == "cpu" else 1


def folded(x: Tensor, folds: int) -> Tensor:
    """Return (batch / folds, folds * C, height, width), channels-last in memory."""
    if folds == 1:
        return x
    images = x.reshape(-1, folds, *x.shape[1:]).permute(0, 3, 4, 1, 2)  # (batch / F, h, w, F, C)
    return images.flatten(3).permute(0, 3, 1, 2)


def unfolded(x: Tensor, folds: int) -> Tensor:
    """Undo `folded`."""
    if folds == 1:
        return x
    images = x.reshape(len(x), folds, -1, *x.shape[2:]).permute(
        0, 1, 3, 4, 2
    )  # (b / F, F, h, w, C)
    return images.flatten(0, 1).permute(0, 3, 1, 2)


def batch_norm(x: Tensor, folds: int = 1, scale: Tensor | None = None) -> Tensor:
    """Normalise with batch statistics and scale each channel; no shift.

    Args:
        x: (batch / folds, folds * C, height, width).
        folds: as above; without a scale if there are several.
        scale: (C,); None for ones.
    """
    if folds == 1:
        return F.batch_norm(x, None, None, scale, None, training=True, eps=EPSILON)
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1] // folds)  # (pixels, C)
    rows = F.batch_norm(rows, None, None, None, None, training=True, eps=EPSILON)
    return rows.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
