"""How much each primitive of each edge takes part: all that a network sees of an architecture.

A relaxation maps alphas to a `Mixing` outside the network, so that softmax, Gumbel samples,
perturbed weights and discrete cells all share one network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from darts_ray.errors import ConfigError
from darts_ray.space import Genotype, SearchSpace

Active: TypeAlias = tuple[tuple[int, ...], ...]
"""For each edge, the columns whose primitives run."""


@dataclass(frozen=True)
class Mixing:
    """Weights of primitives and edges.

    Attributes:
        weights: by cell name, p of shape (edges, columns); or (cells of that name, edges,
            columns), where each cell of the network has its own.
        active: by cell name, the primitives that run at all, chosen on the host; None: all.
            A primitive that does not run has the gradient 0 in p, whatever its weight.
        edges: by cell name, one factor per edge, (edges,); None: 1.
    """

    weights: Mapping[str, Tensor]
    active: Mapping[str, Active] | None = None
    edges: Mapping[str, Tensor] | None = None


def softmax_mixing(alphas: Mapping[str, Tensor], space: SearchSpace) -> Mixing:
    """Return the relaxation of DARTS: the softmax of each edge's alphas.

    Args:
        alphas: raw alphas by cell name, (edges, columns) each; further entries are not read.
        space: the search space.
    """
    return Mixing({name: torch.softmax(alphas[name], dim=-1) for name in space.cell_names})


def one_hot(genotype: Genotype, space: SearchSpace) -> Mixing:
    """Return a discrete cell inside the supernet: weight 1 for the genotype's edges, 0 elsewhere.

    Nothing else runs (`active`).

    Args:
        genotype: of the space.
        space: the search space.

    Raises:
        ConfigError: the genotype has a cell, an edge or a primitive that the space has not.
    """
    weights, active = {}, {}
    nodes_of = genotype.cells
    if set(nodes_of) != set(space.cell_names):
        raise ConfigError(
            f"Genotype: its cells are {sorted(nodes_of)}; the space {space.name!r} has"
            f" {sorted(space.cell_names)}."
        )
    for name, nodes in nodes_of.items():
        cell = space.cell(name)
        p = torch.zeros(cell.num_edges, cell.num_primitives)
        for node, edges in enumerate(nodes):
            for primitive, source in edges:
                row = cell.row(source, node)
                primitives = cell.edges[row].primitives
                if primitive not in primitives:
                    raise ConfigError(
                        f"Genotype: {name} node {node} has {primitive!r}, which is not in the"
                        f" space {space.name!r}: {', '.join(primitives)}."
                    )
                p[row, primitives.index(primitive)] = 1
        weights[name] = p
        active[name] = tuple(tuple(row.nonzero().flatten().tolist()) for row in p)
    return Mixing(weights, active)
