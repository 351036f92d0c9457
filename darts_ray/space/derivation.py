"""From continuous alphas to a discrete genotype (section 2.4 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from darts_ray.errors import ConfigError
from darts_ray.space.genotype import ConvGenotype, Edge, Genotype, RecurrentGenotype
from darts_ray.space.spaces import SearchSpace, resolve_space

Matrix = npt.NDArray[np.float64]


def softmax_alphas(alphas: Any) -> Matrix:
    """Return the row-wise softmax of an alpha matrix in float64.

    Args:
        alphas: shape (num_edges, num_primitives); an array, nested lists or a torch tensor.
    """
    values = alphas.detach().cpu().double().numpy() if hasattr(alphas, "detach") else alphas
    matrix = np.asarray(values, dtype=np.float64)
    exponentials = np.exp(matrix - matrix.max(axis=-1, keepdims=True))
    weights: Matrix = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return weights


def derive(alphas: Mapping[str, Any], space: str | SearchSpace = "darts") -> Genotype:
    """Keep the strongest edges per node, each with its best primitive.

    The strength of an edge is the largest *softmaxed* alpha over the primitives other than
    `none`; `none` takes part in the softmax. Ties go to the lower predecessor, then to the
    earlier primitive. The strongest edge of a node is listed first. The number of nodes follows
    from the number of rows, so supernets of any size derive with the same space.

    Args:
        alphas: raw alphas by cell kind (`normal` and `reduce`, or `recurrent`), each of shape
            (num_edges, num_primitives).
        space: a named space or a `SearchSpace`.

    Raises:
        ConfigError: a matrix is missing, misshapen or not finite.
    """
    resolved = resolve_space(space)
    if set(alphas) != set(resolved.cells):
        raise ConfigError(
            f"derive: alphas have the cells {sorted(alphas)}; the space {resolved.name!r} has"
            f" {sorted(resolved.cells)}."
        )
    cells = {cell: _derive_cell(cell, alphas[cell], resolved) for cell in resolved.cells}
    if resolved.kind == "recurrent":
        edges = _flatten(cells["recurrent"])
        return RecurrentGenotype(edges, tuple(range(1, len(cells["recurrent"]) + 1)))
    return ConvGenotype(
        normal=_flatten(cells["normal"]),
        normal_concat=_concatenated(len(cells["normal"]), resolved),
        reduce=_flatten(cells["reduce"]),
        reduce_concat=_concatenated(len(cells["reduce"]), resolved),
        edges_per_node=resolved.edges_per_node,
    )


def _concatenated(nodes: int, space: SearchSpace) -> tuple[int, ...]:
    """Return the states that a conv cell's output concatenates; 0 and 1 are its inputs."""
    return tuple(range(2 + nodes - space.num_outputs(nodes), 2 + nodes))


def _derive_cell(cell: str, alphas: Any, space: SearchSpace) -> list[list[Edge]]:
    weights = softmax_alphas(alphas)
    if weights.ndim != 2 or weights.shape[1] != len(space.primitives):
        raise ConfigError(
            f"derive: alphas of {cell!r} have shape {weights.shape}; the space {space.name!r} has"
            f" {len(space.primitives)} primitives (columns)."
        )
    if not np.isfinite(weights).all():
        raise ConfigError(f"derive: alphas of {cell!r} are not finite.")
    allowed = [i for i, primitive in enumerate(space.primitives) if primitive != "none"]
    nodes: list[list[Edge]] = []
    start = 0
    while start < len(weights):
        rows = weights[start : start + space.num_inputs + len(nodes)][:, allowed]
        if len(rows) < space.num_inputs + len(nodes):
            raise ConfigError(f"derive: {len(weights)} edges do not fill whole nodes ({cell!r}).")
        best = rows.argmax(axis=1)  # the first of equal ones
        # A stable sort keeps the lower predecessor first among equally strong edges.
        order = np.argsort(-rows.max(axis=1), kind="stable")[: space.edges_per_node]
        nodes.append([Edge(space.primitives[allowed[best[j]]], int(j)) for j in order])
        start += len(rows)
    return nodes


def _flatten(nodes: list[list[Edge]]) -> tuple[Edge, ...]:
    return tuple(edge for node in nodes for edge in node)
