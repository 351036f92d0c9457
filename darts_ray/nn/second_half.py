"""From the first depthwise convolution of a separable one to its second, as one function.

Between them are pointwise convolution, BN and ReLU. Their result is computed again in the backward
pass, by one matrix product, and not kept.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from darts_ray.nn.depthwise_gradients import Stencil, convolve, input_gradient, weight_gradient
from darts_ray.nn.pointwise_norm import (
    LinearMap,
    apply_map,
    images_of,
    linear_map,
    map_gradients,
    pixel_rows,
)
from darts_ray.nn.replay import gradients_by_replay


def second_depthwise(x: Tensor, pointwise: Tensor, depthwise: Tensor) -> Tensor:
    """Return `depthwise(ReLU(BN(pointwise(x))))` on every edge.

    Args:
        x: (batch, edges * channels, height, width), channels-last in memory.
        pointwise: (edges, channels, channels).
        depthwise: (edges * channels, 1, k, k) with odd k.

    Returns:
        (batch, edges * channels, height, width).
    """
    out: Tensor = _SecondDepthwise.apply(x, pointwise, depthwise.to(x.dtype))
    return out


class _SecondDepthwise(Function):
    """Twice differentiable, by replay."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pointwise: Tensor, depthwise: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            linear = _map_of(x, pointwise)
            ctx.save_for_backward(x, pointwise, depthwise, *linear)
            return convolve(_rectified(x, pointwise, linear), depthwise, Stencil())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, pointwise, depthwise, *linear = ctx.saved_tensors
        with torch.autocast(x.device.type, enabled=False):
            if torch.is_grad_enabled():
                return tuple(
                    gradients_by_replay(
                        _plain, [x, pointwise, depthwise], ctx.needs_input_grad, [grad]
                    )
                )
            grad = grad.contiguous(memory_format=torch.channels_last)
            rectified = _rectified(x, pointwise, LinearMap(*linear))
            grad_depthwise = None
            if ctx.needs_input_grad[2]:
                grad_depthwise = weight_gradient(rectified, grad, depthwise, Stencil())
            size = (x.shape[2], x.shape[3])
            grad = input_gradient(grad, depthwise, Stencil(), size)
            grad = torch.ops.aten.threshold_backward(grad, rectified, 0)
            edges = len(pointwise)
            _, grad_pointwise, grad_rows = map_gradients(
                pixel_rows(grad, edges),
                [pixel_rows(x, edges)],
                LinearMap(*linear),
                pointwise.new_ones(1, edges),
                ctx.needs_input_grad[0],
            )
        grad_x = None if grad_rows is None else images_of(grad_rows, size)
        assert grad_pointwise is not None
        return grad_x, grad_pointwise.squeeze(0), grad_depthwise


def _map_of(x: Tensor, pointwise: Tensor) -> LinearMap:
    return linear_map([pixel_rows(x, len(pointwise))], pointwise.unsqueeze(0))


def _rectified(x: Tensor, pointwise: Tensor, linear: LinearMap) -> Tensor:
    edges = len(pointwise)
    rows = apply_map([pixel_rows(x, edges)], linear, pointwise.new_ones(1, edges))
    return F.relu(images_of(rows, (x.shape[2], x.shape[3])), inplace=True)


def _plain(x: Tensor, pointwise: Tensor, depthwise: Tensor) -> list[Tensor]:
    rectified = _rectified(x, pointwise, _map_of(x, pointwise))
    return [convolve(rectified, depthwise, Stencil())]
