"""The primitives of convolutional cells, and the registry through which users add their own."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from darts_ray.errors import ConfigError
from darts_ray.nn.conv.layers import (
    DilatedConv,
    EvenPixels,
    FactorizedReduce,
    Noise,
    PooledNorm,
    ReLUConvNorm,
    SeparableConv,
)
from darts_ray.nn.registering import may_replace
from darts_ray.space import CellSpace

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


def check_registered(cell: CellSpace) -> None:
    """Check that there is an operation for every primitive of a cell.

    Raises:
        ConfigError: there is none; the message names the edge.
    """
    for edge in cell.edges:
        for name in edge.primitives:
            if name not in _OPERATIONS and name != "none":
                close = difflib.get_close_matches(name, _OPERATIONS, n=1)
                raise ConfigError(
                    f"space: the cell {cell.name!r} offers {name!r} on its edge from state"
                    f" {edge.source} to node {edge.node}, which is no operation."
                    + (f" Did you mean {close[0]!r}?" if close else "")
                    + f" There are: {', '.join(['none', *sorted(_OPERATIONS)])}. A module of"
                    " space.imports may add more with darts_ray.nn.register_operation."
                )


def make_operation(
    name: str, channels: int, stride: int, affine: bool, skeleton: str = "darts"
) -> nn.Module:
    """Build the operation that is registered under `name`.

    Args:
        name: of the primitive.
        channels: in and out.
        stride: 1 or 2.
        affine: whether normalisations have learnable scales; False in a supernet.
        skeleton: of the space, which may define a primitive in its own way: NAS-Bench-201's
            pool has no normalisation, in a supernet either.

    Raises:
        ConfigError: no operation has that name.
    """
    if name not in _OPERATIONS:
        raise ConfigError(
            f"No operation is registered as {name!r}; there are: {', '.join(sorted(_OPERATIONS))}."
            " Register your own with darts_ray.nn.register_operation before the network is built."
        )
    own = _OF_SKELETON.get((skeleton, name))
    return (own or _OPERATIONS[name])(channels, stride, affine)


def forget_running_statistics(module: nn.Module) -> nn.Module:
    """Make every batch normalisation in `module` use batch statistics, also in evaluation."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None
    return module


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


@register_operation("noise")
def _noise(channels: int, stride: int, affine: bool) -> nn.Module:
    return Noise(stride)


@register_operation("nor_conv_1x1")
def _nor_conv_1x1(channels: int, stride: int, affine: bool) -> nn.Module:
    return _nor_conv(1, channels, stride, affine)


@register_operation("nor_conv_3x3")
def _nor_conv_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return _nor_conv(3, channels, stride, affine)


def _nor_conv(size: int, channels: int, stride: int, affine: bool) -> nn.Module:
    # As in NAS-Bench-201's code, where the convolution has a bias if the normalisation has none.
    if size == 1 and stride == 2:  # see FactorizedReduce
        return nn.Sequential(EvenPixels(), _nor_conv(1, channels, 1, affine))
    return ReLUConvNorm(channels, channels, size, affine, stride, bias=not affine)


def _bare_avg_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


_OF_SKELETON: dict[tuple[str, str], OperationFactory] = {
    ("nasbench201", "avg_pool_3x3"): _bare_avg_pool_3x3,
}
"""Primitives that a skeleton defines in its own way."""
