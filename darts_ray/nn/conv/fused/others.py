"""Operations on edges that leave one state which are not depthwise-pointwise convolutions."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.nn.conv.fused.folding import batch_norm
from darts_ray.nn.conv.fused.pointwise_norm import pixel_rows
from darts_ray.nn.conv.layers import even_pixels, odd_pixels
from darts_ray.nn.conv.operations import forget_running_statistics, make_operation

DENSE = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""Kernel sizes of dense convolutions."""

EdgeWeights: TypeAlias = Iterator[tuple[str, Tensor]]
"""Of one edge: each weight's name in the operation's own module, and the view of ours."""


def conv_weight(*shape: int) -> nn.Parameter:
    """Return convolution weights with nn.Conv2d's initial distribution."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def edge_rows(weight: Tensor, edges: Sequence[int], size: int) -> Tensor:
    """Return the rows of some edges, `size` each along the first dimension; a view if possible."""
    first, count = edges[0], len(edges)
    if list(edges) == list(range(first, first + count)):
        return weight[first * size : (first + count) * size]
    return torch.cat([weight[edge * size : (edge + 1) * size] for edge in edges])


class EdgeOperations(nn.Module):
    """One operation on several edges that leave the same state."""

    @abstractmethod
    def outputs(self, x: Tensor, edges: Sequence[int]) -> Tensor:
        """Map (batch, channels, h, w) to the outputs on some edges, (edges, pixels, channels)."""

    def weighted(self, x: Tensor, edges: Sequence[int], p: Tensor) -> Tensor:
        """Return the outputs on some edges times p (edges,)."""
        return p[:, None, None].to(x.dtype) * self.outputs(x, edges)

    @abstractmethod
    def edge_weights(self, edge: int) -> EdgeWeights:
        """Yield the weights of one edge."""


class ReducingSkips(EdgeOperations):
    """FactorizedReduce on every edge: the skip of stride 2.

    Attributes:
        conv_1: (edges * channels // 2, channels, 1, 1).
        conv_2: the same, for the image shifted by one pixel.
    """

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        self.c_half = channels // 2
        self.conv_1 = conv_weight(edges * self.c_half, channels, 1, 1)
        self.conv_2 = conv_weight(edges * self.c_half, channels, 1, 1)

    def outputs(self, x: Tensor, edges: Sequence[int]) -> Tensor:
        """Map (batch, channels, h, w) to the outputs on some edges, (edges, pixels, channels)."""
        rectified = F.relu(x)
        halves = []
        for pixels, weight in (
            (even_pixels(rectified), self.conv_1),
            (odd_pixels(rectified), self.conv_2),
        ):
            half = F.conv2d(pixels, edge_rows(weight, edges, self.c_half).to(x.dtype))
            halves.append(pixel_rows(batch_norm(half), len(edges)))
        return torch.cat(halves, dim=-1)

    def edge_weights(self, edge: int) -> EdgeWeights:
        """Yield the weights of one edge."""
        part = slice(edge * self.c_half, (edge + 1) * self.c_half)
        yield "conv_1.weight", self.conv_1[part]
        yield "conv_2.weight", self.conv_2[part]


class DenseConvs(EdgeOperations):
    """ReLU, dense convolution, BN on every edge: `nor_conv_KxK`.

    All edges are one convolution. p is the scale of the normalisation, so no product of its own
    is stored for it. The bias, which the normalisation removes, is there because the reference
    code has it.

    Attributes:
        weight: (edges * channels, channels, k, k).
        bias: (edges * channels,).
    """

    def __init__(self, size: int, channels: int, edges: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = conv_weight(edges * channels, channels, size, size)
        bound = 1 / math.sqrt(channels * size * size)
        self.bias = nn.Parameter(torch.empty(edges * channels).uniform_(-bound, bound))

    def outputs(self, x: Tensor, edges: Sequence[int]) -> Tensor:
        """Map (batch, channels, h, w) to the outputs on some edges, (edges, pixels, channels)."""
        return pixel_rows(batch_norm(self._convolved(x, edges)), len(edges))

    def weighted(self, x: Tensor, edges: Sequence[int], p: Tensor) -> Tensor:
        """Return the outputs on some edges times p (edges,)."""
        scale = p.repeat_interleave(self.channels)
        return pixel_rows(batch_norm(self._convolved(x, edges), scale=scale), len(edges))

    def _convolved(self, x: Tensor, edges: Sequence[int]) -> Tensor:
        weight = edge_rows(self.weight, edges, self.channels).to(x.dtype)
        bias = edge_rows(self.bias, edges, self.channels).to(x.dtype)
        return F.conv2d(F.relu(x), weight, bias, padding=weight.shape[-1] // 2)

    def edge_weights(self, edge: int) -> EdgeWeights:
        """Yield the weights of one edge."""
        part = slice(edge * self.channels, (edge + 1) * self.channels)
        yield "op.1.weight", self.weight[part]
        yield "op.1.bias", self.bias[part]


class RegisteredOperations(EdgeOperations):
    """A user's operation, one module per edge."""

    def __init__(self, name: str, channels: int, stride: int, edges: int, skeleton: str) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            forget_running_statistics(make_operation(name, channels, stride, False, skeleton))
            for _ in range(edges)
        )

    def outputs(self, x: Tensor, edges: Sequence[int]) -> Tensor:
        """Map (batch, channels, h, w) to the outputs on some edges, (edges, pixels, channels)."""
        return torch.cat([pixel_rows(self.edges[edge](x), 1) for edge in edges])

    def edge_weights(self, edge: int) -> EdgeWeights:
        """Yield the weights of one edge, under the names of the user's module."""
        yield from self.edges[edge].named_parameters()
