"""The curvature of the validation loss in the alphas.

Its dominant eigenvalue is known to rise before a search collapses into skip connections (Zela
et al., "Understanding and Robustifying Differentiable Architecture Search", 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from darts_ray.nn.mixing import Mixing
from darts_ray.nn.supernet import Batch, State, Supernet
from darts_ray.search.step.architect import random_numbers_kept

Relax: TypeAlias = Callable[[], Mixing]
"""Maps the present alphas to mixing weights."""


def dominant_eigenvalue(
    supernet: Supernet,
    batch: Batch,
    *,
    state: State = None,
    iterations: int = 20,
    relax: Relax | None = None,
) -> float:
    """Return the eigenvalue of largest magnitude of `d^2 L_val / d_alpha^2` on one batch.

    Lanczos' method with full reorthogonalisation; each iteration takes one exact
    Hessian-vector product (double backward through one kept graph), and the eigenvalues of the
    tridiagonal matrix approach the Hessian's from its ends inward. As many iterations as there
    are alphas give it to rounding.

    Args:
        supernet: in the mode (training or evaluation) that is of interest; nothing is changed.
        batch: inputs and targets.
        state: hidden state before the batch; default: the initial one.
        iterations: Hessian-vector products at most.
        relax: the method's relaxation; default: the supernet's own.
    """
    alphas = list(supernet.alphas.values())
    gradient = _gradient(supernet, batch, state, relax)
    if not gradient.requires_grad:
        return 0.0

    def product(vector: Tensor) -> Tensor:
        return _row(gradient, alphas, vector.to(gradient)).to(vector)

    diagonal, off_diagonal = _lanczos(product, gradient.numel(), iterations)
    eigenvalues = torch.linalg.eigvalsh(
        torch.diag(diagonal) + torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1)
    )
    return float(eigenvalues[eigenvalues.abs().argmax()])


def signed_eigenvalue(
    supernet: Supernet,
    batch: Batch,
    *,
    state: State = None,
    relax: Relax | None = None,
    weight_decay: float = 0.0,
) -> float:
    """Return the largest eigenvalue, with its sign, of `d^2 L_val / d_alpha^2 + weight_decay * I`.

    As RobustDARTS measures it (Zela et al. 2020): the whole Hessian in all alphas jointly, one
    Hessian-vector product per alpha, so 224 of them in the space of DARTS.

    Args:
        supernet: as of `dominant_eigenvalue`; RobustDARTS measures in training mode.
        batch: inputs and targets; RobustDARTS takes the augmented batch that was drawn last.
        state: hidden state before the batch; default: the initial one.
        relax: the method's relaxation; default: the supernet's own.
        weight_decay: of the alphas, part of what they minimise.
    """
    alphas = list(supernet.alphas.values())
    gradient = _gradient(supernet, batch, state, relax)
    if not gradient.requires_grad:
        return weight_decay
    rows = [_row(gradient, alphas, unit) for unit in torch.eye(len(gradient)).to(gradient)]
    hessian = torch.stack(rows).double().cpu()
    return float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1]) + weight_decay


def _gradient(supernet: Supernet, batch: Batch, state: State, relax: Relax | None) -> Tensor:
    """Return the gradient in all alphas, flat, with its graph."""
    alphas = list(supernet.alphas.values())
    if state is None:
        state = supernet.initial_state(batch[1].shape[-1])
    with random_numbers_kept(alphas[0].device):
        given: dict[str, Any] = {} if relax is None else {"mixing": relax()}
        loss, _ = supernet.stateful_loss(batch, state, **given)
    gradients = torch.autograd.grad(loss, alphas, create_graph=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in gradients])


def _row(gradient: Tensor, alphas: Sequence[Tensor], vector: Tensor) -> Tensor:
    """Return the Hessian times a vector, flat."""
    rows = torch.autograd.grad(
        gradient, alphas, grad_outputs=vector, retain_graph=True, materialize_grads=True
    )
    return torch.cat([row.flatten() for row in rows])


def _lanczos(
    product: Callable[[Tensor], Tensor], size: int, iterations: int
) -> tuple[Tensor, Tensor]:
    """Return the diagonals of the tridiagonal matrix, in float64 on the CPU.

    Args:
        product: the symmetric matrix times a vector (size,).
        size: of the matrix.
        iterations: rows at most; fewer if the products stay in a smaller subspace.
    """
    start = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis = [start / start.norm()]
    diagonal: list[Tensor] = []
    off_diagonal: list[Tensor] = []
    for _ in range(min(size, iterations)):
        w = product(basis[-1])
        diagonal.append(w @ basis[-1])
        known = torch.stack(basis)
        for _ in range(2):  # once is not enough in floating point
            w = w - known.T @ (known @ w)
        norm = w.norm()
        if norm <= 1e-12 * torch.stack(diagonal).abs().max() or len(diagonal) == size:
            break
        off_diagonal.append(norm)
        basis.append(w / norm)
    entries = torch.stack(diagonal)
    if off_diagonal:
        return entries, torch.stack(off_diagonal)[: len(entries) - 1]
    return entries, entries.new_empty(0)
