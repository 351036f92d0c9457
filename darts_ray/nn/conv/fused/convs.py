"""The convolutions of some edges that leave one state, mixed and summed: one autograd function.

Of large activations nothing but the state is kept for the backward pass. Depthwise convolutions
are cheap to repeat, so what lies between the state and the nodes is computed again there, in the
cache, where it is needed. Small activations cost more calls than memory, so of those the depthwise
convolutions' outputs are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from darts_ray.nn.conv.fused.branches import (
    SUBSAMPLING,
    Branch,
    Kernels,
    branches_of,
    sources_of,
    stencil_of,
    sum_of_copies,
)
from darts_ray.nn.conv.fused.depthwise_gradients import (
    Stencil,
    input_gradient,
    weight_gradient,
)
from darts_ray.nn.conv.fused.pointwise_norm import (
    LinearMap,
    apply_map,
    images_of,
    linear_map,
    map_gradients,
    pixel_rows,
)
from darts_ray.nn.double_backward import gradients_by_replay

_SMALL_BYTES = 1 << 18
"""Output of one edge up to which activations are kept: 0.93 of a step's time at batch 16, for 0.1
GB; twice as large a limit took 0.3 GB more and gained nothing (2 CPU cores)."""


def mixed_convs(x: Tensor, kernels: Sequence[Kernels], mix: Tensor, base: Tensor | None) -> Tensor:
    """Return `base + sum_k mix_k conv_k(x)` for every edge.

    Each half of a convolution is ReLU, depthwise, pointwise, BN.

    Args:
        x: the state, (batch, C, height, width), channels-last in memory.
        kernels: of K primitives.
        mix: softmaxed alphas, (K, E).
        base: what the other primitives add, (E, pixels, C); None for zeros.

    Returns:
        (E, pixels, C).
    """
    layout = tuple((kernel.stencil, len(kernel.depthwise)) for kernel in kernels)
    weights = [w for kernel in kernels for w in (*kernel.depthwise, *kernel.pointwise)]
    out: Tensor = _MixedConvs.apply(x, base, mix, layout, *weights)
    return out


Layout = tuple[tuple[Stencil, int], ...]
"""Stencil and number of halves of each primitive."""


class _MixedConvs(Function):
    """Twice differentiable, by replay."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: Tensor | None, mix: Tensor, layout: Layout, *weights: Tensor
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            kernels = _kernels(layout, weights)
            is_small = _is_small(x, kernels[0].stencil)
            branches = branches_of(sources_of(x, kernels, mix), kernels, mix, keep=is_small)
            last = _last_map(branches, kernels, mix)
            out = apply_map([branch.last(mix.shape[1]) for branch in branches], last, mix, base)
        ctx.layout = layout
        inner = [matrix for branch in branches for matrix in branch.inner or ()]
        ctx.is_small = is_small
        kept = [half for branch in branches for half in branch.halves()] if is_small else []
        ctx.save_for_backward(x, mix, *last, *inner, *kept, *weights)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        x, mix = islice(saved, 2)
        last = LinearMap(*islice(saved, 4))
        inner = [LinearMap(*islice(saved, 4)) for _, halves in ctx.layout if halves == 2]
        kept = [list(islice(saved, halves)) for _, halves in ctx.layout if ctx.is_small]
        weights = list(saved)
        needs_x, needs_base, needs_mix, _, *needs = ctx.needs_input_grad
        with torch.autocast(x.device.type, enabled=False):
            if torch.is_grad_enabled():
                grad_x, grad_mix, *grad_weights = gradients_by_replay(
                    lambda x, mix, *weights: [_plain(x, mix, _kernels(ctx.layout, weights))],
                    [x, mix, *weights],
                    [needs_x, needs_mix, *needs],
                    [grad],
                )
            else:
                kernels = _kernels(ctx.layout, weights)
                grad_x, grad_mix, *grad_weights = _gradients(
                    grad, x, mix, kernels, inner, last, kept, needs_x, any(needs)
                )
        return grad_x, grad if needs_base else None, grad_mix, None, *grad_weights


def _is_small(x: Tensor, stencil: Stencil) -> bool:
    return x.numel() * x.element_size() <= _SMALL_BYTES * stencil.stride**2


def _kernels(layout: Layout, weights: Sequence[Tensor]) -> list[Kernels]:
    rest = iter(weights)
    return [
        Kernels(stencil, tuple(islice(rest, halves)), tuple(islice(rest, halves)))
        for stencil, halves in layout
    ]


def _last_map(branches: Sequence[Branch], kernels: Sequence[Kernels], mix: Tensor) -> LinearMap:
    pointwise = torch.stack([kernel.pointwise[-1] for kernel in kernels])
    return linear_map([branch.last(mix.shape[1]) for branch in branches], pointwise)


def _plain(x: Tensor, mix: Tensor, kernels: Sequence[Kernels]) -> Tensor:
    branches = branches_of(sources_of(x, kernels, mix), kernels, mix, keep=False)
    inputs = [branch.last(mix.shape[1]) for branch in branches]
    return apply_map(inputs, _last_map(branches, kernels, mix), mix)


def _gradients(
    grad: Tensor,
    x: Tensor,
    mix: Tensor,
    kernels: Sequence[Kernels],
    inner_maps: Sequence[LinearMap],
    last: LinearMap,
    kept: Sequence[Sequence[Tensor]],
    needs_x: bool,
    needs_weights: bool,
) -> list[Tensor | None]:
    """Return the gradients of the state, of mix and of each branch's weights."""
    sources = sources_of(x, kernels, mix)
    branches = branches_of(sources, kernels, mix, keep=True, inner_maps=inner_maps, kept=kept)
    grad_mix, grad_last, grad_inputs = map_gradients(
        grad,
        [branch.last(mix.shape[1]) for branch in branches],
        last,
        mix,
        needs_x or needs_weights,
    )
    copies: dict[bool, Tensor] = {}  # gradients of the sources
    grad_weights: list[Tensor | None] = []
    for kernel, grad_pointwise in zip(kernels, grad_last, strict=True):
        branch, rows = branches.pop(0), grad_inputs.pop(0)  # not needed after this round
        halves = len(kernel.depthwise)
        depthwise: list[Tensor | None] = [None] * halves
        pointwise: list[Tensor | None] = [None] * (halves - 1) + [grad_pointwise]
        if rows is not None:
            images = images_of(rows, branch.output)
            if halves == 2:
                images, depthwise[1], pointwise[0] = _second_half_gradients(
                    images, kernel, branch, mix, needs_weights
                )
            subsampled = kernel.stencil == SUBSAMPLING
            source, stencil = sources[subsampled], stencil_of(kernel, 0)
            if needs_weights:
                depthwise[0] = weight_gradient(source, images, kernel.depthwise[0], stencil)
            if needs_x:
                part = input_gradient(images, kernel.depthwise[0], stencil, source)
                known = copies.get(subsampled)
                copies[subsampled] = part if known is None else known.add_(part)
        grad_weights += [*depthwise, *pointwise]
    grad_x = _state_gradient(x, copies, mix) if needs_x else None
    return [grad_x, grad_mix, *grad_weights]


def _second_half_gradients(
    grad: Tensor, kernel: Kernels, branch: Branch, mix: Tensor, needs_weights: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the gradients of `branch.first`, second depthwise and first pointwise weights."""
    _, inner, first, rectified = branch
    assert inner is not None
    assert first is not None
    assert rectified is not None
    edges, depthwise, stencil = mix.shape[1], kernel.depthwise[1], stencil_of(kernel, 1)
    grad_depthwise = None
    if needs_weights:
        grad_depthwise = weight_gradient(rectified, grad, depthwise, stencil)
    grad = input_gradient(grad, depthwise, stencil, rectified)
    grad = torch.ops.aten.threshold_backward(grad, rectified, 0, grad_input=grad)
    _, (grad_pointwise,), (rows,) = map_gradients(
        pixel_rows(grad, edges), [pixel_rows(first, edges)], inner, None, True
    )
    assert rows is not None
    return images_of(rows, first), grad_depthwise, grad_pointwise


def _state_gradient(x: Tensor, copies: dict[bool, Tensor], mix: Tensor) -> Tensor:
    """Return the gradient of `x` from those of its rectified copies, whole and subsampled."""
    edges = mix.shape[1]
    total = sum_of_copies(copies[False], edges) if False in copies else torch.zeros_like(x)
    if True in copies:
        total[:, :, ::2, ::2] += sum_of_copies(copies[True], edges)
    gradient: Tensor = torch.ops.aten.threshold_backward(total, x, 0, grad_input=total)
    return gradient
