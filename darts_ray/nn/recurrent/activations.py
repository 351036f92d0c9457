"""The primitives of recurrent cells: elementwise activations by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from darts_ray.errors import ConfigError
from darts_ray.nn.registering import may_replace

Function = Callable[[Tensor], Tensor]
Pullback = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Activation:
    """An elementwise function f and how gradients pass back through it.

    Attributes:
        function: `h -> f(h)`, elementwise.
        pullback: `(gradient, h, f(h)) -> gradient * f'(h)`, where the gradient broadcasts
            against h; runs without autograd.
    """

    function: Function
    pullback: Pullback


_activations: dict[str, Activation] = {}


def register_activation(
    name: str, pullback: Pullback | None = None
) -> Callable[[Function], Function]:
    """Register an elementwise function as a primitive of recurrent spaces; a decorator.

    Args:
        name: what a search space or genotype calls it.
        pullback: its backward pass, see `Activation`; by default autograd finds it, more slowly.

    A newer definition of the same function replaces the older, as when a notebook's cell is run
    twice.

    Raises:
        ConfigError: the name is `none` or taken by another function.
    """

    def register(function: Function) -> Function:
        present = _activations.get(name)
        if name == "none" or not (present is None or may_replace(present.function, function)):
            raise ConfigError(f"An activation named {name!r} exists already; choose another name.")
        _activations[name] = Activation(function, pullback or _autograd_pullback(function))
        return function

    return register


def resolve_activations(names: Iterable[str]) -> tuple[Activation, ...]:
    """Return the activations of these names.

    Raises:
        ConfigError: a name is not registered.
    """
    activations = []
    for name in names:
        if name not in _activations:
            raise ConfigError(
                f"No activation is named {name!r}; there are: {', '.join(_activations)}. Add your"
                " own with darts_ray.nn.register_activation."
            )
        activations.append(_activations[name])
    return tuple(activations)


def _autograd_pullback(function: Function) -> Pullback:
    def pullback(gradient: Tensor, h: Tensor, _: Tensor) -> Tensor:
        with torch.enable_grad():
            point = h.detach().requires_grad_()
            (slope,) = torch.autograd.grad(function(point).sum(), point)
        return gradient * slope

    return pullback


def _tanh(h: Tensor) -> Tensor:
    if torch.is_grad_enabled() or h.is_cuda:
        return torch.tanh(h)
    # On CPUs torch.tanh takes six times as long as a sigmoid; tanh(h) = 2 sigmoid(2 h) - 1.
    return (2 * h).sigmoid_().mul_(2).sub_(1)


def _identity(h: Tensor) -> Tensor:
    return h


_aten = torch.ops.aten
# The fused backward kernels of PyTorch take one pass each.
register_activation("tanh", lambda g, _, value: _aten.tanh_backward(g, value))(_tanh)
register_activation("relu", lambda g, h, _: _aten.threshold_backward(g, h, 0))(torch.relu)
register_activation("sigmoid", lambda g, _, value: _aten.sigmoid_backward(g, value))(torch.sigmoid)
register_activation("identity", lambda g, h, _: g.expand_as(h))(_identity)
