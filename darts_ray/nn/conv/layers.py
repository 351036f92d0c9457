"""The layers that primitives and cells are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.runtime.workers import Rows


class ReLUConvNorm(nn.Module):
    """ReLU, convolution, batch normalisation."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int = 1,
        affine: bool = True,
        stride: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel_size, stride, padding=kernel_size // 2, bias=bias),
            nn.BatchNorm2d(c_out, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c_in, height, width) to (batch, c_out, height, width)."""
        out: Tensor = self.op(x)
        return out

    def after_relu(self, rectified: Tensor) -> Tensor:
        """Do the same for what has been through a ReLU."""
        _, conv, norm = self.op
        out: Tensor = norm(conv(rectified))
        return out


def even_pixels(x: Tensor) -> Tensor:
    """Return every second row and column, from the first; half the size, rounded up."""
    return x[:, :, ::2, ::2]


def odd_pixels(x: Tensor) -> Tensor:
    """Return every second row and column, from the second, zero-padded to `even_pixels`' size.

    The original code has no padding and fails on odd sizes; on even ones this is the same.
    """
    height, width = x.shape[-2:]
    odd = x[:, :, 1::2, 1::2]
    return F.pad(odd, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else odd


class FactorizedReduce(nn.Module):
    """Halve height and width: ReLU, two 1x1 convolutions of stride 2 (one shifted), concat, BN.

    The pixels are chosen first, and convolved with stride 1: the weight gradient of a 1x1
    convolution of stride 2 reads past its buffers in oneDNN, which corrupts the heap or is
    silently wrong (oneDNN issue 6035: channels-last images of few channels on a CPU).

    Raises:
        ConfigError: `c_out` is odd, so it cannot be split between the two convolutions.
    """

    def __init__(self, c_in: int, c_out: int, affine: bool = True) -> None:
        super().__init__()
        if c_out % 2:
            raise ConfigError(
                f"A reduction of the image size needs an even number of channels, not {c_out};"
                " choose an even `channels`."
            )
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c_in, h, w) to (batch, c_out, ceil(h / 2), ceil(w / 2))."""
        return self.after_relu(self.relu(x))

    def after_relu(self, rectified: Tensor) -> Tensor:
        """Do the same for what has been through a ReLU."""
        halves = [self.conv_1(even_pixels(rectified)), self.conv_2(odd_pixels(rectified))]
        out: Tensor = self.bn(torch.cat(halves, dim=1))
        return out


class DilatedConv(nn.Module):
    """ReLU, depthwise convolution with dilation 2, pointwise convolution, BN."""

    def __init__(self, channels: int, kernel_size: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            depthwise(channels, kernel_size, stride, dilation=2),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, channels, ceil(h / stride), ...)."""
        out: Tensor = self.op(x)
        return out


class SeparableConv(nn.Module):
    """Twice: ReLU, depthwise convolution, pointwise convolution, BN; the first has the stride."""

    def __init__(self, channels: int, kernel_size: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            depthwise(channels, kernel_size, stride),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
            nn.ReLU(),
            depthwise(channels, kernel_size, stride=1),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, channels, ceil(h / stride), ...)."""
        out: Tensor = self.op(x)
        return out


class PooledNorm(nn.Module):
    """A pooling followed by an affine-free BN, as pools are in the supernet."""

    def __init__(self, pool: nn.Module, channels: int) -> None:
        super().__init__()
        self.pool = pool
        self.bn = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, channels, ceil(h / stride), ...)."""
        out: Tensor = self.bn(self.pool(x))
        return out


def depthwise(channels: int, kernel_size: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    """Return a convolution of each channel with its own kernel, padded to keep the size."""
    padding = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(
        channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False
    )


class Noise(nn.Module):
    """Standard normal numbers of the output's shape, drawn at every pass; what x holds is ignored.

    A candidate of space S4 (Zela et al. 2020); it stays in derived networks, whose evaluation is
    then stochastic.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, channels, ceil(h / stride), ...)."""
        strided = x[:, :, :: self.stride, :: self.stride]
        return torch.randn(strided.shape, dtype=x.dtype, device=x.device)


class EvenPixels(nn.Module):
    """`even_pixels` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, channels, ceil(h / 2), ceil(w / 2))."""
        return even_pixels(x)


def drop_path(x: Tensor, probability: float, rows: Rows | None = None) -> Tensor:
    """Zero whole samples with the given probability and scale the others up.

    Args:
        x: (batch, channels, height, width).
        probability: of dropping, 0 <= probability < 1; each sample has its own draw.
        rows: which samples of a larger batch these are; None: all of them.
    """
    keep = 1 - probability
    # not `bernoulli_(keep)`: torch.compile would compile anew for each epoch's probability
    num = len(x) if rows is None else rows.num
    mask = torch.rand(num, 1, 1, 1, device=x.device) < keep
    if rows is not None:
        mask = mask[rows.held]
    return x * (mask.to(x.dtype) / keep)
