"""Products of one matrix with the states of many time steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class SharedMatrix:
    """A matrix W that each time step multiplies by a state, as `shared @ state`.

    Its gradient `sum_t g_t x_t^T` is computed as one product over all time steps. Autograd would
    make a product per time step and add up the results, each as large as W: that moves more
    memory than it computes. The products can be differentiated any number of times.

    Args:
        matrix: W, (rows, hidden).
        steps: number of products.
        batch: columns of each state.
    """

    def __init__(self, matrix: Tensor, steps: int, batch: int) -> None:
        self._matrix = matrix
        self._is_deferred = torch.is_grad_enabled() and matrix.requires_grad
        self._states: list[Tensor] = []
        if self._is_deferred:
            self._slots = iter(_Deferred.apply(matrix, self._states, steps, batch))

    def __matmul__(self, state: Tensor) -> Tensor:
        """Return W @ state, (rows, batch); autocast's precision is that of W."""
        if not self._is_deferred:
            return self._matrix @ state
        state = state.to(self._matrix.dtype)
        self._states.append(state.detach())
        product: Tensor = _Product.apply(self._matrix, state, next(self._slots))
        return product


class _Deferred(torch.autograd.Function):
    """One empty slot per time step; what reaches the slots as gradients are those of the products.

    Autograd calls the backward pass once, when it has all of them.
    """

    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, states: Sequence[Tensor], steps: int, batch: int
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.states = states  # filled later
        shape = (len(matrix), batch)  # without memory
        return tuple(matrix.new_empty_strided(shape, (0, 0)) for _ in range(steps))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        pairs = [
            (gradient, state)
            for gradient, state in zip(gradients, ctx.states, strict=False)
            if gradient is not None
        ]
        if not pairs:
            return None, None, None, None
        left, right = (torch.cat(columns, dim=1) for columns in zip(*pairs, strict=True))
        return (right @ left.t()).t(), None, None, None


class _Product(torch.autograd.Function):
    """Matrix times state, whose gradient for the matrix goes into a slot."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, state: Tensor, slot: Tensor) -> Tensor:
        ctx.save_for_backward(matrix, state)
        return matrix @ state

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        matrix, state = ctx.saved_tensors
        state_gradient = matrix.t() @ gradient if ctx.needs_input_grad[1] else None
        if torch.is_grad_enabled():  # it will be differentiated, and detached states cannot be
            return gradient @ state.t(), state_gradient, None
        return None, state_gradient, gradient
