"""Mixed operations of a convolutional supernet, for all edges that leave one state at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.nn.operations import (
    forget_running_statistics,
    make_operation,
    shifted_by_one,
)

EPSILON = 1e-5
"""Added to variances, as in nn.BatchNorm2d."""

_KERNELS = {
    "sep_conv_3x3": (3, 1),
    "sep_conv_5x5": (5, 1),
    "sep_conv_7x7": (7, 1),
    "dil_conv_3x3": (3, 2),
    "dil_conv_5x5": (5, 2),
}
"""Kernel size and dilation of the depthwise-pointwise primitives."""


class ConvOperation(nn.Module):
    """One depthwise-pointwise primitive on several edges that read the same state."""

    def __init__(self, name: str, channels: int, stride: int, edges: int) -> None:
        super().__init__()
        self.kernel_size, self.dilation = _KERNELS[name]
        self.stride = stride
        self.depthwise = nn.ParameterList()
        self.pointwise = nn.ParameterList()
        for _ in range(2 if self.dilation == 1 else 1):
            self.depthwise.append(
                conv_weight(edges, channels, 1, self.kernel_size, self.kernel_size)
            )
            self.pointwise.append(conv_weight(edges, channels, channels, 1, 1))

    def forward(self, x: Tensor, edge: int) -> Tensor:
        for half, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise)):
            x = F.conv2d(
                F.relu(x),
                depthwise[edge],
                stride=self.stride if half == 0 else 1,
                padding=self.dilation * (self.kernel_size - 1) // 2,
                dilation=self.dilation,
                groups=x.shape[1],
            )
            x = batch_norm(F.conv2d(x, pointwise[edge]))
        return x

    def original_layout(self, edge: int) -> Iterator[tuple[str, Tensor]]:
        for half, (depthwise, pointwise) in enumerate(zip(self.depthwise, self.pointwise)):
            yield f"op.{1 + 4 * half}.weight", depthwise[edge]
            yield f"op.{2 + 4 * half}.weight", pointwise[edge]


class ReducingSkip(nn.Module):
    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        self.conv_1 = conv_weight(edges, channels // 2, channels, 1, 1)
        self.conv_2 = conv_weight(edges, channels // 2, channels, 1, 1)

    def forward(self, x: Tensor, edge: int) -> Tensor:
        x = F.relu(x)
        halves = [
            F.conv2d(x, self.conv_1[edge], stride=2),
            F.conv2d(shifted_by_one(x), self.conv_2[edge], stride=2),
        ]
        return batch_norm(torch.cat(halves, dim=1))

    def original_layout(self, edge: int) -> Iterator[tuple[str, Tensor]]:
        yield "conv_1.weight", self.conv_1[edge]
        yield "conv_2.weight", self.conv_2[edge]


class RegisteredOperation(nn.Module):
    def __init__(self, name: str, channels: int, stride: int, edges: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            forget_running_statistics(make_operation(name, channels, stride, False))
            for _ in range(edges)
        )

    def forward(self, x: Tensor, edge: int) -> Tensor:
        out: Tensor = self.edges[edge](x)
        return out

    def original_layout(self, edge: int) -> Iterator[tuple[str, Tensor]]:
        yield from self.edges[edge].named_parameters()


class OutgoingEdges(nn.Module):
    """All mixed ops that read one state."""

    def __init__(self, primitives: Sequence[str], channels: int, stride: int, edges: int) -> None:
        super().__init__()
        self.num_edges = edges
        self.operations = nn.ModuleDict()
        for name in primitives:
            if name == "none":
                continue
            if name in _KERNELS:
                self.operations[name] = ConvOperation(name, channels, stride, edges)
            elif name == "skip_connect" and stride == 2:
                self.operations[name] = ReducingSkip(channels, edges)
            else:
                self.operations[name] = RegisteredOperation(name, channels, stride, edges)
        self._columns = {name: primitives.index(name) for name in self.operations}

    def forward(self, x: Tensor, weights: Tensor) -> list[Tensor]:
        """Return the mixed op of every edge; `weights` has shape (edges, num_primitives)."""
        return [
            sum(
                weights[edge, column] * self.operations[name](x, edge)
                for name, column in self._columns.items()
            )
            for edge in range(self.num_edges)
        ]

    def original_layout(self, edge: int) -> Iterator[tuple[str, Tensor]]:
        """Yield the original code's name of each weight of an edge, and our view of it."""
        for name, column in self._columns.items():
            for key, view in self.operations[name].original_layout(edge):
                yield f"_ops.{column}.{key}", view


def conv_weight(*shape: int) -> nn.Parameter:
    """Return convolution weights, first dimension edges, initialised as nn.Conv2d does."""
    bound = 1 / math.sqrt(math.prod(shape[2:]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def batch_norm(x: Tensor) -> Tensor:
    """Normalise with batch statistics, no scale or shift."""
    return F.batch_norm(x, None, None, training=True, eps=EPSILON)
