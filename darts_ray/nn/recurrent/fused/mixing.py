"""The mixed edges that leave one state of a recurrent cell, as one differentiable operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darts_ray.nn.recurrent.activations import Activation


def mixed_edges(z: Tensor, s: Tensor, p: Tensor, activations: tuple[Activation, ...]) -> Tensor:
    """Return what the state s contributes to each node, by relaxed edges.

    With the gate and candidate `[c, h] = W_i (s * mask)` of every edge stacked in z, an edge
    computes

        out = sum_k p_k (s + sigmoid(c) * (f_k(h) - s))
            = P s + sigmoid(c) * (sum_k p_k f_k(h) - P s),    P = sum_k p_k,

    so the gate is applied once per edge instead of once per primitive. The result can be
    differentiated any number of times.

    Args:
        z: gates over candidates, shape (nodes, 2 * hidden, batch); may be of lower precision
            than s, which the result has.
        s: the state, shape (hidden, batch).
        p: softmaxed alphas without the column of `none`, shape (num_primitives, nodes, 1, 1).
        activations: one per primitive.

    Returns:
        shape (nodes, hidden, batch).
    """
    output: Tensor = _MixedEdges.apply(z, s, p, activations)
    return output


class _MixedEdges(torch.autograd.Function):
    """`mixed_edges` with a backward pass in few passes over memory.

    Only z is kept for it, and the activations are evaluated again: that costs less than moving
    the output of each one through memory for a whole sequence. Where the backward pass itself
    is to be differentiated (the exact second-order term), autograd does it on plain operations.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, s: Tensor, p: Tensor, activations: tuple[Activation, ...]
    ) -> Tensor:
        ctx.save_for_backward(z, s, p)
        ctx.activations = activations
        return _mix(z, s, p, activations)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        z, s, p = ctx.saved_tensors
        if torch.is_grad_enabled():
            # Aliases, because z itself depends on s: gradients must not go that way here.
            z, s, p = (value.view_as(value).requires_grad_() for value in (z, s, p))
            output = _mix(z, s, p, ctx.activations)
            return (*torch.autograd.grad(output, (z, s, p), g, create_graph=True), None)
        c, h = z.to(s.dtype).chunk(2, dim=1)
        gate = c.sigmoid()
        total = p.sum(0)
        mixed_g = g * gate
        carried_g = g - mixed_g
        slope, difference = torch.zeros_like(h), total * -s
        p_g = []
        for weight, activation in zip(p, ctx.activations, strict=True):
            value = activation.function(h)
            slope += activation.pullback(weight, h, value)
            difference.addcmul_(weight, value)
            p_g.append((mixed_g * value).sum((1, 2), keepdim=True))
        z_g = torch.empty_like(z, dtype=s.dtype)
        c_g, h_g = z_g.chunk(2, dim=1)
        torch.ops.aten.sigmoid_backward.grad_input(difference.mul_(g), gate, grad_input=c_g)
        torch.mul(mixed_g, slope, out=h_g)
        s_g = (total * carried_g).sum(0)
        total_g = carried_g.mul_(s).sum((1, 2), keepdim=True)
        return z_g.to(z.dtype), s_g, torch.stack(p_g) + total_g, None


def _mix(z: Tensor, s: Tensor, p: Tensor, activations: tuple[Activation, ...]) -> Tensor:
    """Compute `mixed_edges` by plain operations."""
    c, h = z.to(s.dtype).chunk(2, dim=1)
    mixed = p[0] * activations[0].function(h)
    for weight, activation in zip(p[1:], activations[1:], strict=True):
        mixed.addcmul_(weight, activation.function(h))
    return torch.lerp(p.sum(0) * s, mixed, c.sigmoid())
