"""Pointwise convolution and affine-free batch normalisation as one linear map.

`BN(P z)` needs of its input z only the mean m and the covariance C: the output's variance is
`v = diag(P C P^T)`, and with `s = 1 / sqrt(v + eps)`

    BN(P z) = W z + b,    W = diag(s) P,    b = -W m.

So the convolution's output is never stored or read again, a mixed op's weight multiplies W, and
the sum over the primitives of an edge is a sum of matrix products. The gradient is closed too:
with D the gradient of `a BN(P z)`, G = sum_n D_n z_n^T - (sum_n D_n) m^T and h = diag(G W^T),

    da = sum(h)
    dP = a diag(s) (G - diag(h s) P C)
    dz_n = a (W^T D_n - S z_n + c),    S = W^T diag(h / N) W,    c = S m - W^T (sum_n D_n) / N.

Every large operation is a matrix product over all edges that leave a state. Plain PyTorch makes a
pass over memory for each of the mean, the variance, the normalisation, the weight and the sum,
and several more on the way back.

Shapes: E edges, N = batch * height * width pixels, I and O channels in and out, K operations.
Activations may have a lower precision than the weights; moments and all matrices without N have
the weights'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

EPSILON = 1e-5
"""Added to variances, as nn.BatchNorm2d does."""


def pixel_rows(images: Tensor, edges: int) -> Tensor:
    """View (batch, edges * channels, height, width) as (edges, pixels, channels).

    This is a view when `images` is channels-last in memory, as everything here is.
    """
    channels = images.shape[1] // edges
    return images.permute(0, 2, 3, 1).reshape(-1, edges, channels).transpose(0, 1)


def images_of(rows: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo `pixel_rows`: view (edges, pixels, channels) as (batch, edges * channels, *size)."""
    edges, pixels, channels = rows.shape
    height, width = size
    images = rows.transpose(0, 1).reshape(
        pixels // (height * width), height, width, edges * channels
    )
    return images.permute(0, 3, 1, 2)


def mixed_pointwise_norm(
    inputs: Sequence[Tensor],
    pointwise: Tensor,
    mix: Tensor | None = None,
    base: Tensor | None = None,
) -> Tensor:
    """Return `base + sum_k mix_k BN(pointwise_k inputs_k)` for every edge.

    Args:
        inputs: K tensors (E, N, I).
        pointwise: convolution weights, (K, E, O, I).
        mix: (K, E); None for ones.
        base: (E, N, O), overwritten with the result; None for zeros.

    Returns:
        (E, N, O); without `base`, its memory is in the order (N, E, O).
    """
    if mix is None:
        mix = pointwise.new_ones(pointwise.shape[:2])
    out: Tensor = _MixedPointwiseNorm.apply(base, mix, pointwise, *inputs)
    return out


class _Map(NamedTuple):
    mean: Tensor  # m, (K, E, I)
    projected: Tensor  # P C, (K, E, O, I)
    scale: Tensor  # s, (K, E, O)
    weight: Tensor  # W, (K, E, O, I)


def _linear_map(inputs: Sequence[Tensor], pointwise: Tensor) -> _Map:
    means, squares = [], []
    for z in inputs:
        z = z.to(pointwise.dtype)
        means.append(z.mean(dim=1))
        squares.append(torch.bmm(z.mT, z) / z.shape[1])
    mean = torch.stack(means)
    covariance = torch.stack(squares) - mean.unsqueeze(-1) * mean.unsqueeze(-2)
    projected = pointwise @ covariance
    # rounding can make the variance of a constant channel negative
    scale = torch.rsqrt((projected * pointwise).sum(-1).clamp(min=0) + EPSILON)
    return _Map(mean, projected, scale, scale.unsqueeze(-1) * pointwise)


def _apply_map(
    base: Tensor | None, mix: Tensor, linear: _Map, inputs: Sequence[Tensor]
) -> Tensor:
    mixed = mix[..., None, None] * linear.weight
    bias = -(mixed @ linear.mean.unsqueeze(-1)).squeeze(-1).sum(0).unsqueeze(1)
    if base is None:
        edges, pixels, _ = inputs[0].shape
        out = inputs[0].new_empty(pixels, edges, bias.shape[-1]).transpose(0, 1)
        out.copy_(bias)
    else:
        out = base.add_(bias)
    for z, weight in zip(inputs, mixed.mT.to(out.dtype), strict=True):
        out.baddbmm_(z, weight)
    return out


class _MixedPointwiseNorm(Function):
    """Twice differentiable: under `create_graph` the backward pass repeats the forward one."""

    @staticmethod
    def forward(
        ctx: Any, base: Tensor | None, mix: Tensor, pointwise: Tensor, *inputs: Tensor
    ) -> Tensor:
        with torch.autocast(inputs[0].device.type, enabled=False):
            linear = _linear_map(inputs, pointwise)
            out = _apply_map(base, mix, linear, inputs)
        if base is not None:
            ctx.mark_dirty(base)
        ctx.save_for_backward(mix, pointwise, *linear, *inputs)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        mix, pointwise, *saved = ctx.saved_tensors
        linear, inputs = _Map(*saved[:4]), saved[4:]
        needs_base, *needs = ctx.needs_input_grad
        with torch.autocast(grad.device.type, enabled=False):
            if torch.is_grad_enabled():
                grads = _differentiable_gradients(grad, mix, pointwise, inputs, needs)
            else:
                grads = _gradients(grad, mix, linear, inputs, needs)
        return grad if needs_base else None, *grads


def _gradients(
    grad: Tensor, mix: Tensor, linear: _Map, inputs: Sequence[Tensor], needs: Sequence[bool]
) -> list[Tensor | None]:
    """Return the gradients of mix, pointwise and the inputs; those of the inputs if needed."""
    pixels = grad.shape[1]
    sums = grad.sum(dim=1, dtype=mix.dtype)  # (E, O)
    products = torch.stack([torch.bmm(grad.mT, z) for z in inputs]).to(mix.dtype)
    products -= sums.unsqueeze(-1) * linear.mean.unsqueeze(-2)  # G
    correlation = (products * linear.weight).sum(-1)  # h
    mixed = mix[..., None, None] * linear.weight
    grad_inputs: list[Tensor | None] = [None] * len(inputs)
    if any(needs[2:]):
        shrink = mixed.mT @ ((correlation / pixels).unsqueeze(-1) * linear.weight)  # a S
        shift = linear.mean.unsqueeze(-2) @ shrink - (sums / pixels).unsqueeze(-2) @ mixed  # a c
        for k, z in enumerate(inputs):
            # in the memory order of the convolution that made z
            target = z.new_empty(pixels, len(z), z.shape[2]).transpose(0, 1).copy_(shift[k])
            target.baddbmm_(grad, mixed[k].to(z.dtype))
            grad_inputs[k] = target.baddbmm_(z, shrink[k].to(z.dtype), alpha=-1)
    products -= (correlation * linear.scale).unsqueeze(-1) * linear.projected
    products *= (mix.unsqueeze(-1) * linear.scale).unsqueeze(-1)
    return [correlation.sum(-1), products, *grad_inputs]


def _differentiable_gradients(
    grad: Tensor,
    mix: Tensor,
    pointwise: Tensor,
    inputs: Sequence[Tensor],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    arguments = [mix, pointwise, *inputs]
    wanted = [argument for argument, need in zip(arguments, needs, strict=True) if need]
    out = _apply_map(None, mix, _linear_map(inputs, pointwise), inputs)
    grads = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
    return [next(grads) if need else None for need in needs]
