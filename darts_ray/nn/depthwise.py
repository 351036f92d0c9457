"""ReLU and the depthwise convolutions that read it, as one differentiable function.

Only the input is kept for the backward pass: rectifying and repeating it again costs less time
than the memory traffic of keeping the copies. See `depthwise_gradients` for the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from darts_ray.nn.depthwise_gradients import Stencil, convolve, input_gradient, weight_gradient
from darts_ray.nn.replay import gradients_by_replay

_SUBSAMPLING = Stencil(stride=2, dilation=2)
"""Reads every second row and column only: subsample, and it is a plain convolution."""


def rectified_depthwise(
    x: Tensor, weights: Sequence[Tensor], stencils: Sequence[Stencil], edges: int
) -> tuple[Tensor, ...]:
    """Apply K depthwise convolutions to `edges` copies of the ReLU of `x`.

    Args:
        x: (batch, channels, height, width), channels-last in memory.
        weights: K tensors (edges * channels, 1, k, k) with odd k.
        stencils: stride (1 or 2) and dilation (1 or 2) of each convolution.
        edges: how often the channels are repeated.

    Returns:
        K tensors (batch, edges * channels, ceil(height / stride), ceil(width / stride)).
    """
    outputs: tuple[Tensor, ...] = _RectifiedDepthwise.apply(
        x, edges, tuple(stencils), *(weight.to(x.dtype) for weight in weights)
    )
    return outputs


class _RectifiedDepthwise(Function):
    """Twice differentiable, by replay."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, edges: int, stencils: tuple[Stencil, ...], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *weights)
        ctx.edges, ctx.stencils = edges, stencils
        with torch.autocast(x.device.type, enabled=False):
            return _convolve_all(x, edges, stencils, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        edges, stencils = ctx.edges, ctx.stencils
        needs_x, _, _, *needs = ctx.needs_input_grad
        grads = tuple(grad.contiguous(memory_format=torch.channels_last) for grad in grads)
        with torch.autocast(x.device.type, enabled=False):
            if torch.is_grad_enabled():
                grad_x, *grad_weights = gradients_by_replay(
                    lambda x, *weights: _convolve_all(x, edges, stencils, weights),
                    [x, *weights],
                    [needs_x, *needs],
                    grads,
                )
                return grad_x, None, None, *grad_weights
            grad_x = _input_gradient(x, edges, stencils, weights, grads) if needs_x else None
            grad_weights = [None] * len(weights)
            inputs = _Inputs(x, edges)
            for k, (stencil, weight) in enumerate(zip(stencils, weights, strict=True)):
                if needs[k]:
                    source, stencil = inputs.read_by(stencil)
                    grad_weights[k] = weight_gradient(source, grads[k], weight, stencil)
        return grad_x, None, None, *grad_weights


class _Inputs:
    """The rectified copies of a state, made when a convolution first reads them."""

    def __init__(self, x: Tensor, edges: int) -> None:
        self._x = x
        self._edges = edges
        self._made: dict[bool, Tensor] = {}

    def read_by(self, stencil: Stencil) -> tuple[Tensor, Stencil]:
        """Return what a convolution reads, and its stencil there."""
        subsampled = stencil == _SUBSAMPLING
        if subsampled not in self._made:
            x = self._x[:, :, ::2, ::2] if subsampled else self._x
            self._made[subsampled] = _rectify_and_repeat(x, self._edges)
        return self._made[subsampled], Stencil() if subsampled else stencil


def _rectify_and_repeat(x: Tensor, edges: int) -> Tensor:
    """Return the ReLU of `x`, its channels `edges` times; channels-last."""
    batch, channels, height, width = x.shape
    rows = F.relu(x).permute(0, 2, 3, 1).unsqueeze(3)
    rows = rows.expand(batch, height, width, edges, channels)
    return rows.reshape(batch, height, width, edges * channels).permute(0, 3, 1, 2)


def _convolve_all(
    x: Tensor, edges: int, stencils: Sequence[Stencil], weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    inputs = _Inputs(x, edges)
    outputs = []
    for stencil, weight in zip(stencils, weights, strict=True):
        source, stencil = inputs.read_by(stencil)
        outputs.append(convolve(source, weight, stencil))
    return tuple(outputs)


def _input_gradient(
    x: Tensor,
    edges: int,
    stencils: Sequence[Stencil],
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
) -> Tensor:
    height, width = x.shape[2:]
    half_size = (-(-height // 2), -(-width // 2))
    wide: dict[bool, Tensor] = {}
    for stencil, weight, grad in zip(stencils, weights, grads, strict=True):
        subsampled = stencil == _SUBSAMPLING
        if subsampled:
            part = input_gradient(grad, weight, Stencil(), half_size)
        else:
            part = input_gradient(grad, weight, stencil, (height, width))
        wide[subsampled] = wide[subsampled].add_(part) if subsampled in wide else part
    if False in wide:
        total = _sum_over_edges(wide[False], edges)
    else:
        total = torch.zeros_like(x)
    if True in wide:
        total[:, :, ::2, ::2] += _sum_over_edges(wide[True], edges)
    gradient: Tensor = torch.ops.aten.threshold_backward(total, x, 0)
    return gradient


def _sum_over_edges(wide: Tensor, edges: int) -> Tensor:
    batch, channels, height, width = wide.shape
    rows = wide.permute(0, 2, 3, 1).view(batch, height, width, edges, channels // edges)
    return rows.sum(3).permute(0, 3, 1, 2)
