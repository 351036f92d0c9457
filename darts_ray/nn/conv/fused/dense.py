"""The mixed ops of edges without depthwise convolutions, as in NAS-Bench-201: one function.

An edge is a sum of p_o o(x), where o is a 1x1 or 3x3 convolution of relu(x) with normalisation, an
average pool, or the identity.

- relu(x), the pool and the moments of relu(x) serve all edges that leave a state.
- A 1x1 convolution and its normalisation are one linear map (see `pointwise_norm`), whose output
  is never stored.
- The output Y of a 3x3 convolution is normalised, weighted and summed in one pass: with s = 1 /
  sqrt(var Y + eps) and a = p s the edge gets `a Y - a mean(Y)`. For the backward pass Y is kept,
  and the state, and nothing else that is large. With D the gradient of the edge and N pixels,

    dp = s (sum_n D_n Y_n - mean(Y) sum_n D_n) = h,   summed over the channels,
    dY_n = a (D_n - sum_n D_n / N - h s (Y_n - mean(Y)) / N).

Edges are computed one by one, as a convolution for several at once is no faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from darts_ray.nn.conv.fused.folding import batch_norm
from darts_ray.nn.conv.fused.long_rows import add_scaled, channel_sum
from darts_ray.nn.conv.fused.pointwise_norm import (
    EPSILON,
    LinearMap,
    apply_map,
    image_of,
    linear_map,
    map_gradients,
    pixel_rows,
)
from darts_ray.nn.conv.fused.pools import average, average_gradient
from darts_ray.nn.double_backward import gradients_by_replay


class Term(NamedTuple):
    """A primitive of an edge."""

    edge: int
    """Row of p."""

    column: int
    """Column of p."""

    weight: int
    """Which of the weights a convolution has, or `POOL` or `SKIP`."""

    position: int = 0
    """Which C rows of that weight."""


POOL, SKIP = -1, -2

Groups: TypeAlias = tuple[tuple[Term, ...], ...]
"""The terms of each edge."""


def mixed_dense(
    x: Tensor,
    p: Tensor,
    terms: Sequence[Term],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> dict[int, Tensor]:
    """Return what each edge that has a term adds to its node, (batch, C, height, width).

    Args:
        x: the state, (batch, C, height, width), channels-last in memory.
        p: weights of the primitives, (edges, columns).
        terms: at most one per edge and primitive.
        weights: (edges * C, C, k, k) each, k 1 or 3, of the state's type.
        biases: (edges * C,) each, which normalisations remove: their gradients are zeros.
    """
    edges = sorted({term.edge for term in terms})
    if not edges:
        return {}
    groups = tuple(tuple(term for term in terms if term.edge == edge) for edge in edges)
    return dict(zip(edges, _MixedDense.apply(x, p, groups, *weights, *biases), strict=True))


class _MixedDense(Function):
    """Twice differentiable, by replay."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, p: Tensor, groups: Groups, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        shared = _Shared(x)
        outputs: list[Tensor] = []
        kept: list[Tensor] = []
        for terms in groups:
            total: Tensor | None = None  # (pixels, C)
            for term in sorted(terms, key=_place_in_sum):
                weight = p[term.edge, term.column]
                if term.weight < 0:
                    total = _add_product(total, shared.rows(term), weight)
                    continue
                kernel = _kernel(weights, term, x)
                if kernel.shape[-1] == 1:
                    linear = linear_map([shared.z], kernel.flatten(1)[None, None])
                    kept += linear
                    base = None if total is None else total[None]
                    total = apply_map([shared.z], linear, weight.view(1, 1), base)[0]
                else:
                    Y = F.conv2d(shared.rectified, kernel, padding=1)
                    mean, variance = torch.batch_norm_update_stats(Y, None, None, 0.0)
                    s = torch.rsqrt(variance + EPSILON)
                    kept += [Y, mean, s]
                    a = weight * s
                    total = add_scaled(total, pixel_rows(Y, 1)[0], a, -a * mean)
            assert total is not None
            outputs.append(image_of(total, len(x), *x.shape[2:]))
        ctx.groups = groups
        ctx.save_for_backward(x, p, *weights, *kept)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, p, *rest = ctx.saved_tensors
        needs_x, needs_p, _, *needs_weights = ctx.needs_input_grad
        weights, kept = rest[: len(needs_weights)], rest[len(needs_weights) :]
        if torch.is_grad_enabled():
            grad_x, grad_p, *grad_weights = gradients_by_replay(
                lambda x, p, *weights: _plain(x, p, ctx.groups, weights),
                [x, p, *weights],
                [needs_x, needs_p, *needs_weights],
                grads,
            )
            return grad_x, grad_p, None, *grad_weights
        return _gradients(x, p, ctx.groups, weights, kept, grads, needs_x, any(needs_weights))


def _gradients(
    x: Tensor,
    p: Tensor,
    groups: Groups,
    weights: Sequence[Tensor],
    kept: list[Tensor],
    grads: Sequence[Tensor],
    needs_x: bool,
    needs_weights: bool,
) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, p, groups (None), the weights and their biases."""
    shared, known = _Shared(x), iter(kept)
    grad_p = torch.zeros_like(p)
    grad_weights = [torch.zeros_like(weight) if needs_weights else None for weight in weights]
    to_rectified: Tensor | None = None  # gradients, (pixels, C) each
    to_shared: dict[int, Tensor | None] = {POOL: None, SKIP: None}
    for terms, grad in zip(groups, grads, strict=True):
        D = pixel_rows(grad.contiguous(memory_format=torch.channels_last), 1)[0]
        for term in sorted(terms, key=_place_in_sum):
            weight, place = p[term.edge, term.column], (term.edge, term.column)
            if term.weight < 0:
                grad_p[place] = torch.dot(D.reshape(-1), shared.rows(term).reshape(-1))
                to_shared[term.weight] = _add_product(to_shared[term.weight], D, weight)
                continue
            kernel = _kernel(weights, term, x)
            if kernel.shape[-1] == 1:
                linear = LinearMap(*(next(known) for _ in range(4)))
                h, grad_kernel, (part,) = map_gradients(
                    D[None], [shared.z], linear, weight.view(1, 1), needs_x
                )
                grad_p[place] = h[0, 0]
                if part is not None:
                    to_rectified = part[0] if to_rectified is None else to_rectified.add_(part[0])
                grad_kernel = grad_kernel.view(kernel.shape)
            else:
                Y, mean, s = (next(known) for _ in range(3))
                h, grad_Y = _norm_gradients(D, Y, mean, s, weight)
                grad_p[place] = h
                grad_r, grad_kernel, _ = torch.ops.aten.convolution_backward(
                    grad_Y, shared.rectified, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0],
                    1, [needs_x, needs_weights, False],
                )  # fmt: skip
                if needs_x:
                    part = pixel_rows(grad_r, 1)[0]
                    to_rectified = part if to_rectified is None else to_rectified.add_(part)
            target = grad_weights[term.weight]
            if target is not None:
                target[_rows_of(term, x)] = grad_kernel
    grad_x = _state_gradient(shared, to_rectified, to_shared) if needs_x else None
    return grad_x, grad_p, None, *grad_weights


def _norm_gradients(
    D: Tensor, Y: Tensor, mean: Tensor, s: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of p, 0-dim, and of Y."""
    rows = pixel_rows(Y, 1)[0]
    N, D_sum = len(rows), channel_sum(D)
    h = s * (channel_sum(D * rows) - mean * D_sum)  # (C,)
    a, b = weight * s, -weight * s * s * h / N
    grad = add_scaled(None, rows, b, -a * D_sum / N - b * mean)
    grad = add_scaled(grad, D, a, None)
    return h.sum(), image_of(grad, len(Y), *Y.shape[2:])


def _state_gradient(
    shared: _Shared, to_rectified: Tensor | None, to_shared: dict[int, Tensor | None]
) -> Tensor:
    x, total = shared.x, to_shared[SKIP]
    size = (len(x), *x.shape[2:])
    if to_rectified is not None:
        rows = torch.ops.aten.threshold_backward(to_rectified, pixel_rows(x, 1)[0], 0)
        total = rows if total is None else total.add_(rows)
    if (to_pool := to_shared[POOL]) is not None:
        rows = pixel_rows(average_gradient(image_of(to_pool, *size)), 1)[0]
        total = rows if total is None else total.add_(rows)
    assert total is not None
    return image_of(total, *size)


class _Shared:
    """What all edges that leave a state have in common."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self.rectified = F.relu(x)
        self.z = pixel_rows(self.rectified, 1)  # (1, pixels, C)
        self._pooled: Tensor | None = None

    def rows(self, term: Term) -> Tensor:
        """Return the output of a primitive without weights, (pixels, C)."""
        if term.weight == SKIP:
            return pixel_rows(self.x, 1)[0]
        if self._pooled is None:
            self._pooled = average(self.x)
        return pixel_rows(self._pooled, 1)[0]


def _place_in_sum(term: Term) -> int:
    """Put convolutions first: a sum that begins with a matrix product saves a pass."""
    return -term.weight if term.weight < 0 else term.weight - 100


def _rows_of(term: Term, x: Tensor) -> slice:
    return slice(term.position * x.shape[1], (term.position + 1) * x.shape[1])


def _kernel(weights: Sequence[Tensor], term: Term, x: Tensor) -> Tensor:
    return weights[term.weight][_rows_of(term, x)]


def _add_product(total: Tensor | None, rows: Tensor, factor: Tensor) -> Tensor:
    return rows * factor if total is None else total.addcmul_(rows, factor)


def _plain(x: Tensor, p: Tensor, groups: Groups, weights: Sequence[Tensor]) -> list[Tensor]:
    """Compute the same with PyTorch's differentiable operations; biases follow the weights."""
    outputs = []
    for terms in groups:
        total = torch.zeros_like(x)
        for term in terms:
            if term.weight == SKIP:
                out = x
            elif term.weight == POOL:
                out = F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
            else:
                kernel = _kernel(weights, term, x)
                bias = weights[len(weights) // 2 + term.weight][_rows_of(term, x)]
                out = batch_norm(F.conv2d(F.relu(x), kernel, bias, padding=kernel.shape[-1] // 2))
            total = total + p[term.edge, term.column] * out
        outputs.append(total)
    return outputs
