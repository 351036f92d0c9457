"""The exact unrolled alpha gradient, by differentiating through the virtual step.

Slow and obvious: the whole virtual step stays in the autograd graph. Only the clip coefficient
is a constant, as the architect defines it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from darts_ray.nn.mixing import Mixing
from darts_ray.nn.supernet import Batch, State, Supernet


def unrolled_alpha_gradient(
    supernet: Supernet,
    train_batch: Batch,
    valid_batch: Batch,
    *,
    xi: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    buffers: Sequence[Tensor | None] | None = None,
    max_norm: float | None = None,
    train_state: State = None,
    valid_state: State = None,
    train_mixing: Mixing | None = None,
    valid_mixing: Mixing | None = None,
) -> dict[str, Tensor]:
    """Return `d/d_alpha L_val(w - xi (momentum b + c g + weight_decay w), alpha)`.

    The losses are taken at `train_mixing` and `valid_mixing`, which may be any differentiable
    functions of the alphas; without them at the supernet's own relaxation.
    """
    weights = supernet.weights
    gradients = torch.autograd.grad(
        _loss(supernet, weights, train_batch, train_state, train_mixing),
        weights,
        create_graph=True,
        materialize_grads=True,
    )
    c = 1.0
    if max_norm is not None:
        norm = torch.sqrt(sum((g.detach() ** 2).sum() for g in gradients)).item()
        c = min(1.0, max_norm / (norm + 1e-6))
    moved = [
        w - xi * (momentum * (0 if b is None else b) + c * g + weight_decay * w)
        for w, g, b in zip(weights, gradients, buffers or [None] * len(weights), strict=True)
    ]
    loss = _loss(supernet, moved, valid_batch, valid_state, valid_mixing)
    alphas = supernet.alphas
    result = torch.autograd.grad(loss, list(alphas.values()), materialize_grads=True)
    return dict(zip(alphas, result, strict=True))


class _StatefulLoss(nn.Module):
    """`functional_call` calls forward; this makes forward the stateful loss."""

    def __init__(self, supernet: Supernet) -> None:
        super().__init__()
        self.supernet = supernet

    def forward(self, batch: Batch, state: State, mixing: Mixing | None) -> Tensor:
        given = {} if mixing is None else {"mixing": mixing}
        return self.supernet.stateful_loss(batch, state, **given)[0]


def _loss(
    supernet: Supernet,
    weights: Sequence[Tensor],
    batch: Batch,
    state: State,
    mixing: Mixing | None,
) -> Tensor:
    module = _StatefulLoss(supernet)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    given = {
        names[id(weight)]: value for weight, value in zip(supernet.weights, weights, strict=True)
    }
    return functional_call(module, given, (batch, state, mixing))
