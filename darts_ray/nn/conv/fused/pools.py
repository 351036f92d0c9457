"""Primitives without weights; a state may have the channels of several images side by side."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_ray.nn.conv.fused.folding import batch_norm


def _max_pool(x: Tensor, stride: int, folds: int) -> Tensor:
    return batch_norm(F.max_pool2d(x, 3, stride, padding=1), folds)


def _avg_pool(x: Tensor, stride: int, folds: int) -> Tensor:
    return batch_norm(_bare_avg_pool(x, stride, folds), folds)


def _bare_avg_pool(x: Tensor, stride: int, folds: int) -> Tensor:
    return F.avg_pool2d(x, 3, stride, padding=1, count_include_pad=False)


def _identity(x: Tensor, stride: int, folds: int) -> Tensor:
    return x


WITHOUT_WEIGHTS: dict[str, dict[str, Callable[[Tensor, int, int], Tensor]]] = {
    "darts": {"max_pool_3x3": _max_pool, "avg_pool_3x3": _avg_pool, "skip_connect": _identity},
    "nasbench201": {"avg_pool_3x3": _bare_avg_pool, "skip_connect": _identity},
}
"""By skeleton, primitives without weights: all edges that leave a state share the result."""


def average(x: Tensor) -> Tensor:
    """Return the mean over 3x3 pixels, as far as they are in the image.

    As a depthwise convolution this takes a quarter of the time of PyTorch's pool.
    """
    return _box_sum(x) * _shares(x)


def average_gradient(grad: Tensor) -> Tensor:
    """Return the gradient of `average`'s argument."""
    return _box_sum(grad * _shares(grad))


def _box_sum(x: Tensor) -> Tensor:
    return F.conv2d(x, x.new_ones(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])


def _shares(x: Tensor) -> Tensor:
    """Return one by the number of pixels that each output averages, (1, 1, height, width)."""
    counts = []
    for size in x.shape[2:]:
        count = x.new_full((size,), 3.0)
        count[0] -= 1
        count[-1] -= 1
        counts.append(count)
    return torch.outer(*counts).reciprocal()[None, None]
