"""Lambda-DARTS (Movahedi et al., ICLR 2023): the layers shall agree on what the alphas should be.

    g_l = dL_T/dp_l, p_l the mixing weights of the l-th of n normal cells;  u_l = g_l / |g_l|
    D_l = 2 / (n (n - 1)) * (I - u_l u_l^T) sum_m u_m / |g_l|,  eps = eps_0 / |D|
    weights' gradient += lambda_t * [grad_w L_T(p - eps D) - grad_w L_T(p + eps D)] / (2 eps)

That is the gradient of minus the mean cosine between the layers' g, by a finite difference;
lambda_t goes linearly from 0 to 0.125, in S4 on SVHN to 0.25. Cells of other kinds keep the
shared p. The term is added before the gradient is clipped.

Conv spaces whose first kind of cell occurs at least twice; first order and unrolled. Two and a
half to three times the time of first-order DARTS: one pass for g and two for the difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from darts_ray.config.methods import LambdaDartsConfig
from darts_ray.errors import ConfigError
from darts_ray.nn.mixing import Mixing
from darts_ray.search.parts import Method, StatelessRule, WeightStep


@dataclass(frozen=True)
class AlignLayers(StatelessRule):
    """Adds the term.

    Attributes:
        config: its weight, and the size of the difference.
    """

    config: LambdaDartsConfig

    def apply(self, step: WeightStep) -> None:
        """Add it to the weights' gradients."""
        name = next(iter(step.mixing.weights))
        layers = sum(getattr(cell, "name", None) == name for cell in step.supernet.cells)
        if layers < 2:
            raise ConfigError(
                f"method: lambda_darts compares the {name!r} cells of a network, and this one has"
                f" {layers}; increase network.layers."
            )
        p = step.mixing.weights[name].expand(layers, -1, -1).clone().requires_grad_()
        g = torch.autograd.grad(step.loss(step.train, _with(step.mixing, name, p)), p)[0]
        d = direction(g)
        size = d.norm()
        eps = self.config.epsilon / size.clamp_min(torch.finfo(size.dtype).tiny)
        factor = self.config.weight * step.progress.share
        p = p.detach()
        for sign in (-1.0, 1.0):
            loss = step.loss(step.train, _with(step.mixing, name, p + sign * eps * d))
            gradients = torch.autograd.grad(loss, list(step.weights), materialize_grads=True)
            for weight, gradient in zip(step.weights, gradients, strict=True):
                assert weight.grad is not None
                weight.grad -= sign * factor / (2 * eps) * gradient


def direction(g: Tensor) -> Tensor:
    """Return D, the gradient in g of the mean cosine between layers, (layers, edges, columns)."""
    n = len(g)
    rows = g.flatten(1)  # (layers, edges * columns)
    norms = rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
    u = rows / norms
    total = u.sum(0)  # (edges * columns,)
    d: Tensor = 2 / (n * (n - 1)) * (total - u * (u @ total).unsqueeze(1)) / norms
    return d.view_as(g)


def _with(mixing: Mixing, name: str, p: Tensor) -> Mixing:
    return replace(mixing, weights={**mixing.weights, name: p})


def lambda_darts(config: LambdaDartsConfig) -> Method:
    """Return the method."""
    return Method(config.name, weight_rule=lambda: AlignLayers(config))
