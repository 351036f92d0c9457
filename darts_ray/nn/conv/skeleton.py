"""What is around the cells of a convolutional network: stem, order and sizes of the cells, head.

Supernets and derived networks share it. `darts`: cells of two inputs, of which two reduce the
image. `nasbench201`: three stages of cells with one input, residual blocks between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.conv.layers import FactorizedReduce, ReLUConvNorm


class CellPlace(NamedTuple):
    """Where a cell stands in a network."""

    name: str
    """Of the cell in its space; "" is a residual block."""

    channels: int
    """Of the cell's nodes."""

    reduction: bool
    """Whether the cell halves the image."""

    reduction_prev: bool
    """Whether the previous cell did."""


def places(
    skeleton: str, channels: int, layers: int, *, reduction_prev: bool = False
) -> Iterator[CellPlace]:
    """Yield the places of a network's cells.

    Args:
        skeleton: `darts` or `nasbench201`.
        channels: of the first cell's nodes; each reduction doubles them.
        layers: number of cells. For `nasbench201` 3 N, N per stage; 3 N + 2, which counts the
            residual blocks, is understood as well.
        reduction_prev: whether the stem's second output is half as large as its first.

    Raises:
        ConfigError: the number does not fit the skeleton.
    """
    if layers < 1:
        raise ConfigError(f"layers: a network needs at least one cell, not {layers}.")
    if skeleton == "nasbench201":
        yield from _places_of_stages(channels, layers)
        return
    reductions = reduction_layers(layers)
    for layer in range(layers):
        reduction = layer in reductions
        channels *= 2 if reduction else 1
        yield CellPlace("reduce" if reduction else "normal", channels, reduction, reduction_prev)
        reduction_prev = reduction


def _places_of_stages(channels: int, layers: int) -> Iterator[CellPlace]:
    if layers < 3 or layers % 3 == 1:
        raise ConfigError(
            f"layers: the nasbench201 skeleton has three stages of N cells, so layers must be 3 N"
            f" (or 3 N + 2, with the residual blocks), not {layers}."
        )
    for stage in range(3):
        for cell in range(layers // 3):
            yield CellPlace("cell", channels * 2**stage, False, stage > 0 and cell == 0)
        if stage < 2:
            yield CellPlace("", channels * 2 ** (stage + 1), True, False)


def inputs_of(skeleton: str) -> int:
    """Return how many previous cells a cell reads.

    Raises:
        ConfigError: the skeleton is not one of conv networks.
    """
    inputs = {"darts": 2, "nasbench201": 1}
    if skeleton not in inputs:
        raise ConfigError(f"The skeleton {skeleton!r} is not for conv cells; use a conv space.")
    return inputs[skeleton]


def make_stem(in_channels: int, channels: int) -> nn.Sequential:
    """Return a 3x3 convolution with normalisation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
    )


def make_head(skeleton: str, channels: int) -> nn.Module:
    """Return what the last map goes through before it is averaged: BN and ReLU, or nothing."""
    if skeleton == "nasbench201":
        return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
    return nn.Identity()


class Preprocessing(NamedTuple):
    """What a cell of the `darts` skeleton does with its two inputs."""

    first: FactorizedReduce | ReLUConvNorm
    second: ReLUConvNorm


def make_preprocessing(
    c_prev_prev: int, c_prev: int, channels: int, reduction_prev: bool, affine: bool
) -> Preprocessing:
    """Return modules that give both inputs `channels` channels and the second one's size."""
    first: FactorizedReduce | ReLUConvNorm
    if reduction_prev:
        first = FactorizedReduce(c_prev_prev, channels, affine=affine)
    else:
        first = ReLUConvNorm(c_prev_prev, channels, affine=affine)
    return Preprocessing(first, ReLUConvNorm(c_prev, channels, affine=affine))


class ResidualBlock(nn.Module):
    """Halves the image: two 3x3 convolutions, the first of stride 2, beside a pooled shortcut.

    Its normalisations are affine, in a supernet too, as in NAS-Bench-201's code. There odd images
    fail; here the pool rounds their size up as the convolution does.

    Args:
        c_in: channels of the input.
        c_out: channels of the output.

    Attributes:
        out_channels: as `c_out`.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.out_channels = c_out
        self.conv_a = ReLUConvNorm(c_in, c_out, 3, stride=2)
        self.conv_b = ReLUConvNorm(c_out, c_out, 3)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(c_in, c_out, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c_in, h, w) to (batch, c_out, ceil(h / 2), ceil(w / 2))."""
        out: Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return out


def joined(nodes: list[Tensor], output: str) -> Tensor:
    """Return a cell's output: the concat or the mean of some nodes, or the last of them."""
    if output == "concat":
        return torch.cat(nodes, dim=1)
    return nodes[-1] if output == "last" else torch.stack(nodes).mean(0)


def reduction_layers(layers: int) -> frozenset[int]:
    """Return the indices of the reduction cells: one third and two thirds of the way."""
    return frozenset({layers // 3, 2 * layers // 3})


def check_image_size(height: int, width: int, smallest: int, needed_by: str = "network") -> None:
    """Check that an image is large enough.

    Args:
        height: pixels.
        width: pixels.
        smallest: pixels that the shorter side must have.
        needed_by: what needs them, for the message.

    Raises:
        ConfigError: the shorter side is too short.
    """
    if min(height, width) < smallest:
        raise ConfigError(
            f"Images of {height}x{width} pixels are too small: the {needed_by} needs at least"
            f" {smallest}x{smallest}; enlarge them, or choose fewer layers."
        )
