"""Mixing weights as leaves: the network's gradient in p, and its way back to the alphas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from darts_ray.nn.mixing import Mixing
from darts_ray.search.parts import Alphas


class Leaves:
    """What one forward pass is differentiated in: p, or the alphas themselves.

    The network is expensive as a function of p only, and the relaxation is a small map J from
    alphas to p outside of it: `dL/d_alpha = J^T dL/dp`. Since the pull-back is linear, every
    term of an unrolled gradient goes through the map of the loss that it comes from.

    Args:
        alphas: all architecture parameters.
        relaxed: p as a differentiable function of them; None: the network knows no mixing, and
            its loss is differentiated in the alphas directly.

    Attributes:
        mixing: the weights to compute with; None without a relaxation.
        tensors: the leaves, in a fixed order.
    """

    def __init__(self, alphas: Alphas, relaxed: Mixing | None) -> None:
        self._alphas = list(alphas.values())
        self.mixing: Mixing | None = None
        self.tensors = self._alphas
        self._outputs: list[Tensor] = []
        if relaxed is None:
            return
        weights = dict(relaxed.weights)
        edges = dict(relaxed.edges or {})
        self.tensors = []
        for group in (weights, edges):
            for name, values in group.items():
                if values.requires_grad:
                    group[name] = values.detach().requires_grad_()
                    self._outputs.append(values)
                    self.tensors.append(group[name])
        self.mixing = replace(
            relaxed, weights=weights, edges=None if relaxed.edges is None else edges
        )

    def pull_back(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradient in each of the alphas.

        Args:
            gradients: in `tensors`, one each.
        """
        if self.tensors is self._alphas:
            return list(gradients)
        if not self._outputs:
            return [torch.zeros_like(alpha) for alpha in self._alphas]
        return list(
            torch.autograd.grad(
                self._outputs,
                self._alphas,
                grad_outputs=[g.to(p) for g, p in zip(gradients, self._outputs, strict=True)],
                retain_graph=True,
                materialize_grads=True,
            )
        )


def detached(mixing: Mixing) -> Mixing:
    """Return the same weights for a pass that is not differentiated in them."""
    return replace(
        mixing,
        weights={name: values.detach() for name, values in mixing.weights.items()},
        edges=None
        if mixing.edges is None
        else {name: values.detach() for name, values in mixing.edges.items()},
    )
