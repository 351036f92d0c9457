"""What each convolution of some edges computes between the state and its last matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from darts_ray.nn.conv.fused.depthwise_gradients import Stencil, convolve
from darts_ray.nn.conv.fused.pointwise_norm import (
    LinearMap,
    apply_map,
    images_of,
    linear_map,
    pixel_rows,
)

SUBSAMPLING = Stencil(stride=2, dilation=2)
"""Reads every second row and column only: subsample, and it is a plain convolution."""


class Kernels(NamedTuple):
    """Weights of a separable (two halves) or dilated (one half) convolution on E edges."""

    stencil: Stencil
    """Of the first half; the second has stride and dilation 1."""

    depthwise: tuple[Tensor, ...]
    """Per half, (E * F * C, 1, k, k), where the state has the channels of F images in a row."""

    pointwise: tuple[Tensor, ...]
    """Per half, (E, C, C)."""


class Branch(NamedTuple):
    """What one primitive computes on its way from the state to its last pointwise convolution."""

    output: Tensor
    """Of the last depthwise convolution."""

    inner: LinearMap | None = None
    """First pointwise convolution and BN, if there is a second half."""

    first: Tensor | None = None
    """Output of the first depthwise convolution, if there is a second half and it is kept."""

    rectified: Tensor | None = None
    """Rectified output of the first half, which the second reads, if it is kept."""

    def halves(self) -> list[Tensor]:
        """Return the outputs of the depthwise convolutions."""
        return [self.output] if self.first is None else [self.first, self.output]

    def last(self, edges: int) -> Tensor:
        """Return the last pointwise convolution's input, (E, pixels, C)."""
        return pixel_rows(self.output, edges)


def branches_of(
    sources: dict[bool, Tensor],
    kernels: Sequence[Kernels],
    mix: Tensor,
    *,
    keep: bool,
    inner_maps: Sequence[LinearMap] = (),
    kept: Sequence[Sequence[Tensor]] = (),
) -> list[Branch]:
    """Compute all branches; differentiable.

    Args:
        sources: as `_sources` returns them.
        kernels: of the primitives.
        mix: only its shape is read.
        keep: whether what lies between the two halves is kept.
        inner_maps: of the branches with two halves, if they are known.
        kept: the depthwise convolutions' outputs by branch and half, if they are known.
    """
    known_maps, known_outputs = iter(inner_maps), iter(kept)
    return [
        _branch(
            sources[kernel.stencil == SUBSAMPLING],
            kernel,
            mix.shape[1],
            keep,
            next(known_maps, None) if len(kernel.depthwise) == 2 else None,
            next(known_outputs, ()),
        )
        for kernel in kernels
    ]


def _branch(
    source: Tensor,
    kernel: Kernels,
    edges: int,
    keep: bool,
    inner: LinearMap | None,
    kept: Sequence[Tensor],
) -> Branch:
    known_outputs = iter(kept)
    first = next(known_outputs, None)
    if first is None:
        first = _convolve(source, kernel, 0)
    if len(kernel.depthwise) == 1:
        return Branch(first)
    rows = pixel_rows(first, edges)
    inner = inner or linear_map([rows], kernel.pointwise[0].unsqueeze(0))
    rectified = F.relu(images_of(apply_map([rows], inner), first), inplace=True)
    output = next(known_outputs, None)
    if output is None:
        output = _convolve(rectified, kernel, 1)
    return Branch(output, inner, first, rectified) if keep else Branch(output, inner)


def _convolve(source: Tensor, kernel: Kernels, half: int) -> Tensor:
    return convolve(source, kernel.depthwise[half].to(source.dtype), stencil_of(kernel, half))


def stencil_of(kernel: Kernels, half: int) -> Stencil:
    """Return how a depthwise convolution reads its source."""
    return Stencil() if half or kernel.stencil == SUBSAMPLING else kernel.stencil


def sources_of(x: Tensor, kernels: Sequence[Kernels], mix: Tensor) -> dict[bool, Tensor]:
    """Return rectified copies of the state, one per edge: whole, and subsampled (True)."""
    return {
        subsampled: _rectified_copies(x[:, :, ::2, ::2] if subsampled else x, mix.shape[1])
        for subsampled in {kernel.stencil == SUBSAMPLING for kernel in kernels}
    }


def _rectified_copies(x: Tensor, copies: int) -> Tensor:
    """Return the ReLU of `x`, its channels `copies` times; channels-last."""
    batch, channels, height, width = x.shape
    rows = F.relu(x).permute(0, 2, 3, 1).unsqueeze(3)
    rows = rows.expand(batch, height, width, copies, channels)
    return rows.reshape(batch, height, width, copies * channels).permute(0, 3, 1, 2)


def sum_of_copies(wide: Tensor, copies: int) -> Tensor:
    """Return the gradient of what `_rectified_copies` copied: the sum over the copies."""
    if copies == 1:
        return wide
    batch, channels, height, width = wide.shape
    rows = wide.permute(0, 2, 3, 1).view(batch, height, width, copies, channels // copies)
    return rows.sum(3).permute(0, 3, 1, 2)
