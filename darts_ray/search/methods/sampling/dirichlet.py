"""What DrNAS needs of the Dirichlet distribution: its concentrations and a divergence."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence
from torch.nn import functional as F

from darts_ray.search.deriving.edges import cell_names, column_mask
from darts_ray.search.parts import Alphas
from darts_ray.space import SearchSpace


def divergence(alphas: Alphas, space: SearchSpace, weight: float) -> Tensor:
    """Return weight * sum over the edges of KL(Dirichlet(c) || Dirichlet(1))."""
    total = torch.zeros((), dtype=next(iter(alphas.values())).dtype)
    for name in cell_names(space):
        for _, _, c in concentrations(alphas[name], space, name):
            total = total.to(c) + kl_divergence(Dirichlet(c), Dirichlet(torch.ones_like(c))).sum()
    return weight * total


def concentrations(
    alpha: Tensor, space: SearchSpace, name: str
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return (edges, columns, c) of the edges with equally many primitives."""
    mask = column_mask(space, name, alpha)
    c = F.elu(alpha) + 1
    counts = torch.full((len(c),), c.shape[1]) if mask is None else mask.sum(-1).cpu()
    groups = []
    for count in sorted(set(counts.tolist())):
        edges = (counts == count).nonzero().flatten().to(alpha.device)
        columns = torch.arange(count, device=alpha.device)  # lists are padded at their ends
        # 1e-6: where alpha is very negative, c rounds to 0, which is no concentration
        groups.append((edges, columns, c[edges][:, :count].clamp_min(1e-6)))
    return groups
