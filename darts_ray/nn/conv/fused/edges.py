"""Mixed operations of a convolutional supernet, for all edges that leave one state at once.

The edges that leave a state read the same tensor, so they are computed together:

- its ReLU, and its pooled and normalised versions, are computed once, not once per edge;
- a depthwise convolution runs once over an image with E * C channels, C for each of E edges (on
  a CPU E is limited, see `_GROUP_BYTES`);
- the mixture of pools and skip is one (E, 3) by (3, N * C) matrix product;
- pointwise convolutions with their normalisations, the mixing and the sum over primitives are
  matrix products over all edges (see `pointwise_norm`);
- `none` contributes nothing and costs nothing.

Weights of the same kind are stored together, edge after edge along the first dimension; this is
the layout on CPU and GPU alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.nn.conv.fused.convs import Kernels, mixed_convs
from darts_ray.nn.conv.fused.depthwise_gradients import Stencil
from darts_ray.nn.conv.fused.pointwise_norm import EPSILON, pixel_rows
from darts_ray.nn.conv.operations import (
    even_pixels,
    forget_running_statistics,
    make_operation,
    odd_pixels,
)

_GROUP_BYTES = 1 << 20
"""Activations that a CPU computes at once with one thread: what its cache holds. Measured with
1 MiB of L2 cache per core, edges of 1 MiB: four of them at once take 1.07 times as long."""

_SHARED_GROUP_BYTES = 1 << 22
"""The same with several threads, which share large operations better: there it takes 0.92 times
as long. With edges of 4 MiB, two at once take 1.03 times as long as one by one, four 1.10."""

Layout: TypeAlias = Iterator[tuple[str, Tensor]]
"""The original code's name of each weight, and a view of ours that holds it."""

_KERNELS = {
    "sep_conv_3x3": (3, 1),
    "sep_conv_5x5": (5, 1),
    "sep_conv_7x7": (7, 1),
    "dil_conv_3x3": (3, 2),
    "dil_conv_5x5": (5, 2),
}
"""Kernel size and dilation of the depthwise-pointwise primitives."""


def batch_norm(x: Tensor) -> Tensor:
    """Normalise with batch statistics, no scale or shift."""
    return F.batch_norm(x, None, None, training=True, eps=EPSILON)


def _max_pool(x: Tensor, stride: int) -> Tensor:
    return batch_norm(F.max_pool2d(x, 3, stride, padding=1))


def _avg_pool(x: Tensor, stride: int) -> Tensor:
    return batch_norm(F.avg_pool2d(x, 3, stride, padding=1, count_include_pad=False))


def _identity(x: Tensor, stride: int) -> Tensor:
    return x


_SHARED: dict[str, Callable[[Tensor, int], Tensor]] = {
    "max_pool_3x3": _max_pool,
    "avg_pool_3x3": _avg_pool,
    "skip_connect": _identity,
}
"""Primitives without weights: all edges that leave a state share the result."""


class SeparableConvs(nn.Module):
    """A separable (two halves) or dilated (one half) convolution on every edge.

    Each half is ReLU, depthwise, pointwise, BN.

    Attributes:
        depthwise: per half, (edges * channels, 1, k, k).
        pointwise: per half, (edges * channels, channels, 1, 1).
    """

    def __init__(self, name: str, channels: int, stride: int, edges: int) -> None:
        super().__init__()
        size, dilation = _KERNELS[name]
        self.stencil = Stencil(stride, dilation)
        halves = 2 if dilation == 1 else 1
        self.channels = channels
        self.depthwise = nn.ParameterList(
            _conv_weight(edges * channels, 1, size, size) for _ in range(halves)
        )
        self.pointwise = nn.ParameterList(
            _conv_weight(edges * channels, channels, 1, 1) for _ in range(halves)
        )

    def groups(self, size: int) -> list[Kernels]:
        """Return the weights of up to `size` edges at a time."""
        depthwise = [weight.split(size * self.channels) for weight in self.depthwise]
        pointwise = [
            weight.view(-1, self.channels, self.channels).split(size) for weight in self.pointwise
        ]
        return [
            Kernels(self.stencil, depthwise, pointwise)
            for depthwise, pointwise in zip(
                zip(*depthwise, strict=True), zip(*pointwise, strict=True), strict=True
            )
        ]

    def original_layout(self, edge: int) -> Layout:
        """Yield the weights of one edge."""
        part = slice(edge * self.channels, (edge + 1) * self.channels)
        for half in range(len(self.depthwise)):
            yield f"op.{1 + 4 * half}.weight", self.depthwise[half][part]
            yield f"op.{2 + 4 * half}.weight", self.pointwise[half][part]


class ReducingSkips(nn.Module):
    """FactorizedReduce on every edge: the skip of stride 2.

    Attributes:
        conv_1: (edges * channels // 2, channels, 1, 1).
        conv_2: the same, for the image shifted by one pixel.
    """

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        self.num_edges = edges
        self.c_half = channels // 2
        self.conv_1 = _conv_weight(edges * self.c_half, channels, 1, 1)
        self.conv_2 = _conv_weight(edges * self.c_half, channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (edges, pixels, channels)."""
        rectified = F.relu(x)
        halves = [
            F.conv2d(even_pixels(rectified), self.conv_1.to(rectified.dtype)),
            F.conv2d(odd_pixels(rectified), self.conv_2.to(rectified.dtype)),
        ]
        return torch.cat([pixel_rows(batch_norm(x), self.num_edges) for x in halves], dim=-1)

    def original_layout(self, edge: int) -> Layout:
        """Yield the weights of one edge."""
        part = slice(edge * self.c_half, (edge + 1) * self.c_half)
        yield "conv_1.weight", self.conv_1[part]
        yield "conv_2.weight", self.conv_2[part]


class RegisteredOperations(nn.Module):
    """A user's operation, one module per edge."""

    def __init__(self, name: str, channels: int, stride: int, edges: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            forget_running_statistics(make_operation(name, channels, stride, False))
            for _ in range(edges)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (edges, pixels, channels)."""
        return torch.cat([pixel_rows(operation(x), 1) for operation in self.edges])

    def original_layout(self, edge: int) -> Layout:
        """Yield the weights of one edge, under the names of the user's module."""
        yield from self.edges[edge].named_parameters()


class OutgoingEdges(nn.Module):
    """The mixed ops of all edges that leave one state.

    Args:
        primitives: of the space, in the order of the alpha columns.
        channels: of the state.
        stride: 1, or 2 for the inputs of a reduction cell.
        edges: number of edges that leave the state.
    """

    def __init__(self, primitives: Sequence[str], channels: int, stride: int, edges: int) -> None:
        super().__init__()
        self.num_edges, self.stride = edges, stride
        # asked here, because torch.compile cannot trace the question
        self._group_bytes = _GROUP_BYTES if torch.get_num_threads() == 1 else _SHARED_GROUP_BYTES
        self._column = {name: column for column, name in enumerate(primitives)}
        self._shared: list[str] = []
        self.convs = nn.ModuleDict()
        self.others = nn.ModuleDict()
        for name in primitives:
            if name == "skip_connect" and stride == 2:
                self.others[name] = ReducingSkips(channels, edges)
            elif name in _SHARED:
                self._shared.append(name)
            elif name in _KERNELS:
                self.convs[name] = SeparableConvs(name, channels, stride, edges)
            elif name != "none":
                self.others[name] = RegisteredOperations(name, channels, stride, edges)

    def forward(self, x: Tensor, weights: Tensor) -> list[Tensor]:
        """Return what each edge adds to its node.

        Args:
            x: the state, (batch, channels, h, w).
            weights: softmaxed alphas of these edges, (edges, num_primitives).

        Returns:
            One (batch, channels, ceil(h / stride), ceil(w / stride)) per edge.
        """
        size = (-(-x.shape[2] // self.stride), -(-x.shape[3] // self.stride))
        group = self._group_size(x, size)
        mixed: list[Tensor | None] = [None] * math.ceil(self.num_edges / group)
        if self._shared:
            mixed = list(torch.split(self._mix_shared(x, weights), group))
        if len(self.convs):
            mixed = self._add_convs(x, weights, mixed, group)
        edges = [rows for part in mixed if part is not None for rows in _unbind(part)]
        for name, operations in self.others.items():
            weighted = weights[:, self._column[name], None, None].to(x.dtype) * operations(x)
            addends = weighted.unbind(0)
            edges = [a + b for a, b in zip(edges, addends, strict=True)] if edges else [*addends]
        return [rows.reshape(len(x), *size, -1).permute(0, 3, 1, 2) for rows in edges]

    def _group_size(self, x: Tensor, size: tuple[int, int]) -> int:
        """Return how many edges to compute at once: all on a GPU, else what was measured best."""
        if x.device.type != "cpu":
            return self.num_edges
        bytes_per_edge = len(x) * x.shape[1] * size[0] * size[1] * x.element_size()
        return max(1, min(self.num_edges, self._group_bytes // bytes_per_edge))

    def _mix_shared(self, x: Tensor, weights: Tensor) -> Tensor:
        results = [
            pixel_rows(_SHARED[name](x, self.stride), 1).squeeze(0) for name in self._shared
        ]
        stacked = torch.stack(results)
        mixture = self._columns(self._shared, weights).to(x.dtype) @ stacked.flatten(1)
        return mixture.view(self.num_edges, *stacked.shape[1:])

    def _add_convs(
        self, x: Tensor, weights: Tensor, bases: list[Tensor | None], group: int
    ) -> list[Tensor | None]:
        """Add the convolutions to the bases, one (edges, pixels, channels) per group of edges."""
        convs = cast("list[SeparableConvs]", list(self.convs.values()))
        kernels = zip(*(conv.groups(group) for conv in convs), strict=True)
        mixes = torch.split(self._columns(list(self.convs), weights).mT, group, dim=1)
        return [
            mixed_convs(x, part, mix, base)
            for part, mix, base in zip(kernels, mixes, bases, strict=True)
        ]

    def _columns(self, names: Sequence[str], weights: Tensor) -> Tensor:
        """Return the weights of these primitives, (edges, primitives)."""
        return torch.stack([weights[:, self._column[name]] for name in names], dim=1)

    def original_layout(self, edge: int) -> Layout:
        """Yield the weights of one edge."""
        for name, module in [*self.convs.items(), *self.others.items()]:
            operations = cast("SeparableConvs | ReducingSkips | RegisteredOperations", module)
            for key, view in operations.original_layout(edge):
                yield f"_ops.{self._column[name]}.{key}", view


def _unbind(part: Tensor) -> Sequence[Tensor]:
    """Return the rows of each edge; the backward pass of `unbind` copies even a single one."""
    return [part.squeeze(0)] if len(part) == 1 else part.unbind()


def _conv_weight(*shape: int) -> nn.Parameter:
    """Return convolution weights with nn.Conv2d's initial distribution."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
