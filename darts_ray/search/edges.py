"""What the search asks of a space: its cells, their rows by node, and derivation by strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from darts_ray.space import Genotype, SearchSpace, derive


def cell_names(space: SearchSpace) -> tuple[str, ...]:
    """Return the names of the cells."""
    return getattr(space, "cell_names", None) or space.cells


def node_rows(space: SearchSpace, name: str, num_edges: int) -> list[list[int]]:
    """Return the rows of the edges that lead into each node."""
    if hasattr(space, "cell"):
        cell = space.cell(name)
        return [list(cell.rows(node)) for node in range(cell.nodes)]
    rows: list[list[int]] = []
    first = 0
    while first < num_edges:
        count = space.num_inputs + len(rows)
        rows.append(list(range(first, first + count)))
        first += count
    return rows


def keep(space: SearchSpace, name: str) -> int | None:
    """Return how many edges a node keeps; None: all."""
    return space.cell(name).keep if hasattr(space, "cell") else space.edges_per_node


def primitives(space: SearchSpace, name: str, num_edges: int) -> list[tuple[str, ...]]:
    """Return the primitives of each edge."""
    if hasattr(space, "cell"):
        return [edge.primitives for edge in space.cell(name).edges]
    return [space.primitives] * num_edges


def column_mask(space: SearchSpace, name: str, values: Tensor) -> Tensor | None:
    """Return which columns an edge has, (edges, columns); None: all have all."""
    if not hasattr(space, "cell"):
        return None
    mask = torch.as_tensor(np.asarray(space.cell(name).mask()), device=values.device)
    return None if bool(mask.all()) else mask


def real_columns(values: Tensor, space: SearchSpace, name: str) -> Tensor:
    """Return logits with minus infinity in the columns that an edge does not have."""
    mask = column_mask(space, name, values)
    return values if mask is None else values.masked_fill(~mask, -torch.inf)


def sample_cell(space: SearchSpace) -> Genotype:
    """Return a cell drawn with PyTorch's global generator."""
    shape = (space.num_edges(), len(space.primitives))
    return derive({name: torch.randn(shape) for name in cell_names(space)}, space)


def derive_by_strength(strengths: Mapping[str, Any], space: SearchSpace) -> Genotype:
    """Return the strongest cell, whatever the strengths' rows sum up to."""
    # the softmax of log(p) is p up to a factor per row, which is divided out here
    return derive({k: torch.log(v.clamp_min(1e-30)) for k, v in strengths.items()}, space)
