"""Depthwise convolution with gradients that are fast where PyTorch's are slow.

Three measured facts shape this file (CPU, channels-last, times per megabyte of activations):

- The input gradient of a dilated convolution takes 0.6 to 1.0 ms in oneDNN, and 0.1 ms when it is
  computed as a forward convolution of the output gradient with the flipped kernel.
- oneDNN's depthwise weight gradient takes 0.1 ms for kernels up to three columns wide without
  dilation, at any number of rows; anything else falls back to a dense kernel and takes 0.5 to
  1.2 ms. So a wide kernel is cut into strips of three columns, and dilation is removed by
  looking at the same memory as a smaller image with more channels.
- With stride 2, a kernel of dilation 2 reads only every second row and column: subsample first.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

_STRIP = 3
"""Columns of a kernel whose weight gradient is fast."""


def depthwise_conv(x: Tensor, weight: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    """Convolve each channel with its own kernel; the output has ceil(size / stride) pixels.

    Args:
        x: (batch, channels, height, width), channels-last in memory.
        weight: (channels, 1, k, k) with odd k.
        stride: 1 or 2.
        dilation: 1 or 2.
    """
    if stride == 2 and dilation == 2:
        x = x[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
        stride = dilation = 1
    out: Tensor = _DepthwiseConv.apply(x, weight.to(x.dtype), stride, dilation)
    return out


def _convolve(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    padding = dilation * (weight.shape[-1] // 2)
    return F.conv2d(x, weight, None, stride, padding, dilation, groups=x.shape[1])


class _DepthwiseConv(Function):
    """Twice differentiable: the backward pass consists of differentiable operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation = stride, dilation
        return _convolve(x, weight, stride, dilation)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = grad_weight = None
        if ctx.stride == 1 and needs_x:
            grad_x = _convolve(grad, weight.flip(2, 3), 1, ctx.dilation)
            needs_x = False
        # the strips are not worth their while on a GPU, and are not written differentiably
        strips = grad.device.type == "cpu" and not torch.is_grad_enabled()
        if ctx.stride == 1 and needs_weight and strips:
            if weight.shape[-1] > _STRIP or ctx.dilation > 1:
                grad_weight = _weight_gradient(x, grad, weight.shape[-1], ctx.dilation)
                needs_weight = False
        if needs_x or needs_weight:
            rest = _library_gradients(
                grad, x, weight, ctx.stride, ctx.dilation, (needs_x, needs_weight)
            )
            grad_x = rest[0] if needs_x else grad_x
            grad_weight = rest[1] if needs_weight else grad_weight
        return grad_x, grad_weight, None, None


def _library_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int, needs: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    padding = dilation * (weight.shape[-1] // 2)
    grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        [stride, stride],
        [padding, padding],
        [dilation, dilation],
        False,
        [0, 0],
        x.shape[1],
        [*needs, False],
    )
    return grad_x, grad_weight


def _weight_gradient(x: Tensor, grad: Tensor, size: int, dilation: int) -> Tensor:
    """Return sum over n, h, w of x[n, c, h + d*i, w + d*j] * grad[n, c, h, w] for all i, j.

    Args:
        x: (batch, channels, height, width).
        grad: the same shape; gradient of the output.
        size: rows and columns of the kernel.
        dilation: distance of its taps, d.

    Returns:
        (channels, 1, size, size).
    """
    batch, channels, height, width = x.shape
    half = size // 2
    # Zero columns between rows, one of them before each row, keep what a strip reads beside its
    # row from being the next row, or the library's own padding.
    rows = -(-height // dilation)
    columns = -(-width // dilation) + half
    shape = (batch, rows * dilation, columns * dilation, channels)
    slack = (half + 1) * channels * dilation
    padded_x = _padded(x, shape, dilation, slack)
    padded_grad = _padded(grad, shape, dilation, 0)
    # The same memory as an image with a dilation times smaller grid: the pixel (d*h + a, d*w + b)
    # becomes row h, column a*columns + w, channel block b.
    shape = (batch, rows, dilation * columns, dilation * channels)

    def image(flat: Tensor, offset: int) -> Tensor:
        return flat[offset : offset + padded_grad.numel()].view(shape).permute(0, 3, 1, 2)

    weight_like = x.new_empty(dilation * channels, 1, size, _STRIP)
    strips = []
    for first in range(0, size, _STRIP):
        shift = first + 1 - half  # columns from the kernel's centre to this strip's
        _, strip, _ = torch.ops.aten.convolution_backward(
            image(padded_grad, 0),
            image(padded_x, slack + shift * channels * dilation),
            weight_like,
            None,
            [1, 1],
            [half, 1],
            [1, 1],
            False,
            [0, 0],
            dilation * channels,
            [False, True, False],
        )
        strips.append(strip[..., : size - first])
    kernel = torch.cat(strips, dim=-1)
    return kernel.view(dilation, channels, 1, size, size).sum(0)


def _padded(x: Tensor, shape: tuple[int, int, int, int], lead: int, slack: int) -> Tensor:
    """Return `x` in channels-last order, zero-padded below and to both sides, flat.

    Args:
        x: (batch, channels, height, width).
        shape: (batch, padded height, padded width, channels).
        lead: zero columns before each row.
        slack: zeros before the first and after the last value.
    """
    batch, rows, columns, channels = shape
    size = batch * rows * columns * channels
    flat = x.new_zeros(size + 2 * slack)
    inner = flat[slack : slack + size].view(shape)
    inner[:, : x.shape[2], lead : lead + x.shape[3]].copy_(x.permute(0, 2, 3, 1))
    return flat
