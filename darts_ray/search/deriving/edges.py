"""What the search asks of a space: its cells, their rows by node, and derivation by strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from darts_ray.space import Genotype, SearchSpace, derive_strengths


def cell_names(space: SearchSpace) -> tuple[str, ...]:
    """Return the names of the cells."""
    return space.cell_names


def node_rows(space: SearchSpace, name: str, num_edges: int) -> list[list[int]]:
    """Return the rows of the edges that lead into each node."""
    cell = space.cell(name)
    return [list(cell.rows(node)) for node in range(cell.nodes)]


def keep(space: SearchSpace, name: str) -> int | None:
    """Return how many edges a node keeps; None: all."""
    return space.cell(name).keep


def primitives(space: SearchSpace, name: str, num_edges: int) -> list[tuple[str, ...]]:
    """Return the primitives of each edge."""
    return [edge.primitives for edge in space.cell(name).edges]


def column_mask(space: SearchSpace, name: str, values: Tensor) -> Tensor | None:
    """Return which columns an edge has, (edges, columns); None: all have all."""
    mask = torch.as_tensor(space.cell(name).mask(), device=values.device)
    return None if bool(mask.all()) else mask


def real_columns(values: Tensor, space: SearchSpace, name: str) -> Tensor:
    """Return logits with minus infinity in the columns that an edge does not have."""
    mask = column_mask(space, name, values)
    return values if mask is None else values.masked_fill(~mask, -torch.inf)


def sample_cell(space: SearchSpace) -> Genotype:
    """Return a cell drawn with PyTorch's global generator."""
    return space.sample(torch.default_generator)


def derive_by_strength(strengths: Mapping[str, Any], space: SearchSpace) -> Genotype:
    """Return the strongest cell, whatever the strengths' rows sum up to."""
    return derive_strengths(strengths, space)
