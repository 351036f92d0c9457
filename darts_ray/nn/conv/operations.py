"""The primitives of convolutional cells, and the registry through which users add their own."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.registering import may_replace

OperationFactory = Callable[[int, int, bool], nn.Module]
"""Makes a module from (channels, stride, affine); it keeps the number of channels."""

_OPERATIONS: dict[str, OperationFactory] = {}


def register_operation(name: str) -> Callable[[OperationFactory], OperationFactory]:
    """Return a decorator that makes a factory available to conv search spaces under `name`.

    The factory is called as `factory(channels, stride, affine)`. Its module maps (batch, channels,
    height, width) to (batch, channels, ceil(height / stride), ceil(width / stride)). `affine` says
    whether batch normalisations should have learnable scales: False in a supernet, True in a
    derived network. In a supernet the running statistics of the module's batch normalisations
    are switched off, as everywhere in a search.

    Do not use 1x1 convolutions of stride 2: on CPUs their weight gradient corrupts memory for few
    channels (oneDNN issue 6035). Convolve `x[:, :, ::2, ::2]` with stride 1 instead, which is the
    same.

    A factory may be registered again, and replaced by a newer definition of the same name in the
    same module, as when a notebook's cell is run twice.

    Raises:
        ConfigError: another factory has that name, or a module cannot have it.
    """
    if "." in name or not name or hasattr(nn.ModuleDict(), name):
        raise ConfigError(
            f"An operation cannot be named {name!r}: choose a name without dots that"
            " torch.nn.ModuleDict has no attribute of."
        )

    def decorate(factory: OperationFactory) -> OperationFactory:
        if name == "none" or not may_replace(_OPERATIONS.get(name, factory), factory):
            raise ConfigError(
                f"An operation is already registered as {name!r}; choose a new name."
            )
        _OPERATIONS[name] = factory
        return factory

    return decorate


def make_operation(name: str, channels: int, stride: int, affine: bool) -> nn.Module:
    """Build the operation that is registered under `name`.

    Raises:
        ConfigError: no operation has that name.
    """
    if name not in _OPERATIONS:
        raise ConfigError(
            f"No operation is registered as {name!r}; there are: {', '.join(sorted(_OPERATIONS))}."
            " Register your own with darts_ray.nn.register_operation before the network is built."
        )
    return _OPERATIONS[name](channels, stride, affine)


def forget_running_statistics(module: nn.Module) -> nn.Module:
    """Make every batch normalisation in `module` use batch statistics, also in evaluation."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None
    return module


class ReLUConvNorm(nn.Module):
    """ReLU, convolution, batch normalisation."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int = 1, affine: bool = True) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c_in, height, width) to (batch, c_out, height, width)."""
        out: Tensor = self.op(x)
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
        x = self.relu(x)
        halves = [self.conv_1(even_pixels(x)), self.conv_2(odd_pixels(x))]
        out: Tensor = self.bn(torch.cat(halves, dim=1))
        return out


class DilatedConv(nn.Module):
    """ReLU, depthwise convolution with dilation 2, pointwise convolution, BN."""

    def __init__(self, channels: int, kernel_size: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            _depthwise(channels, kernel_size, stride, dilation=2),
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
            _depthwise(channels, kernel_size, stride),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
            nn.ReLU(),
            _depthwise(channels, kernel_size, stride=1),
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


def _depthwise(channels: int, kernel_size: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(
        channels, channels, kernel_size, stride, padding, dilation, groups=channels, bias=False
    )


@register_operation("max_pool_3x3")
def _max_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    pool = nn.MaxPool2d(3, stride, padding=1)
    return pool if affine else PooledNorm(pool, channels)


@register_operation("avg_pool_3x3")
def _avg_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    return pool if affine else PooledNorm(pool, channels)


@register_operation("skip_connect")
def _skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


@register_operation("sep_conv_3x3")
def _sep_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return SeparableConv(channels, 3, stride, affine)


@register_operation("sep_conv_5x5")
def _sep_conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    return SeparableConv(channels, 5, stride, affine)


@register_operation("sep_conv_7x7")
def _sep_conv_7x7(channels: int, stride: int, affine: bool) -> nn.Module:
    return SeparableConv(channels, 7, stride, affine)


@register_operation("dil_conv_3x3")
def _dil_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return DilatedConv(channels, 3, stride, affine)


@register_operation("dil_conv_5x5")
def _dil_conv_5x5(channels: int, stride: int, affine: bool) -> nn.Module:
    return DilatedConv(channels, 5, stride, affine)


@register_operation("conv_7x1_1x7")
def _conv_7x1_1x7(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )
