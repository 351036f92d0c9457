"""How much each primitive of each edge takes part: all that a network sees of an architecture.

A relaxation maps alphas to a `Mixing` outside the network, so that softmax, Gumbel samples,
perturbed weights and discrete cells all share one network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from darts_ray.errors import ConfigError
from darts_ray.space import CellSpace, Genotype, SearchSpace

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

    An edge that has fewer primitives than there are columns has the weight 0 in the others. Where
    there are alphas `beta_CELL`, one per edge, their softmax over the edges that enter the same
    node is the factor of each edge (PC-DARTS).

    Args:
        alphas: raw alphas by cell name, (edges, columns) each, and betas, (edges,); further
            entries are not read.
        space: the search space.
    """
    weights = {name: _softmax(alphas[name], space.cell(name)) for name in space.cell_names}
    edges = {
        name: _node_softmax(alphas[f"beta_{name}"], space.cell(name))
        for name in space.cell_names
        if f"beta_{name}" in alphas
    }
    return Mixing(weights, edges=edges or None)


def _node_softmax(betas: Tensor, cell: CellSpace) -> Tensor:
    # edges are in the order of their nodes
    sizes = [len(list(rows)) for _, rows in groupby(cell.edges, key=lambda edge: edge.node)]
    return torch.cat([torch.softmax(part, dim=0) for part in torch.split(betas, sizes)])


def _softmax(alphas: Tensor, cell: CellSpace) -> Tensor:
    columns = alphas.shape[-1]
    # Edges with equally many primitives together, by slices: a mask would have to be copied to
    # the device.
    parts, first = [], 0
    for length, edges in groupby(len(edge.primitives) for edge in cell.edges):
        end = first + len(list(edges))
        p = torch.softmax(alphas[first:end, :length], dim=-1)
        parts.append(F.pad(p, (0, columns - length)) if length < columns else p)
        first = end
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def one_hot(genotype: Genotype, space: SearchSpace) -> Mixing:
    """Return a discrete cell inside the supernet: weight 1 for the genotype's edges, 0 elsewhere.

    Nothing else runs (`active`).

    Args:
        genotype: of the space.
        space: the search space.

    Raises:
        ConfigError: the genotype has a cell, an edge or a primitive that the space has not.
    """
    if set(genotype.cells) != set(space.cell_names):
        raise ConfigError(
            f"Genotype: its cells are {sorted(genotype.cells)}; the space {space.name!r} has"
            f" {sorted(space.cell_names)}."
        )
    weights, active = {}, {}
    for name, nodes in genotype.cells.items():
        cell = space.cell(name)
        rows = {(edge.source, edge.node): row for row, edge in enumerate(cell.edges)}
        p = torch.zeros(space.alpha_shapes[name])
        for node, edges in enumerate(nodes):
            for primitive, source in edges:
                row = rows.get((source, node))
                names = () if row is None else cell.edges[row].primitives
                if row is None or primitive not in names:
                    raise ConfigError(
                        f"Genotype: {name} node {node} has {primitive!r} from state {source},"
                        f" where the space {space.name!r} has: {', '.join(names) or 'no edge'}."
                    )
                p[row, names.index(primitive)] = 1
        weights[name] = p
        active[name] = tuple(tuple(row.nonzero().flatten().tolist()) for row in p)
    return Mixing(weights, active)
