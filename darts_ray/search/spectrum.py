"""The curvature of the validation loss in the alphas.

Its dominant eigenvalue is known to rise before a search collapses into skip connections (Zela
et al., "Understanding and Robustifying Differentiable Architecture Search", 2020).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from darts_ray.nn.supernet import Batch, State, Supernet
from darts_ray.search.architect import random_numbers_kept


def dominant_eigenvalue(
    supernet: Supernet, batch: Batch, *, state: State = None, iterations: int = 20
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
    """
    alphas = list(supernet.alphas.values())
    if state is None:
        state = supernet.initial_state(batch[1].shape[-1])
    with random_numbers_kept(alphas[0].device):
        loss, _ = supernet.stateful_loss(batch, state)
    gradients = torch.autograd.grad(loss, alphas, create_graph=True, materialize_grads=True)
    gradient = torch.cat([g.flatten() for g in gradients])
    if not gradient.requires_grad:
        return 0.0

    def product(vector: Tensor) -> Tensor:
        rows = torch.autograd.grad(
            gradient,
            alphas,
            grad_outputs=vector.to(gradient),
            retain_graph=True,
            materialize_grads=True,
        )
        return torch.cat([row.flatten() for row in rows]).to(vector)

    diagonal, off_diagonal = _lanczos(product, gradient.numel(), iterations)
    eigenvalues = torch.linalg.eigvalsh(
        torch.diag(diagonal) + torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1)
    )
    return float(eigenvalues[eigenvalues.abs().argmax()])


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
