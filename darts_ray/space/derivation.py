"""From continuous alphas to a discrete genotype (section 2.4 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from darts_ray.errors import ConfigError
from darts_ray.space.edges import Edge
from darts_ray.space.genotype import Genotype
from darts_ray.space.spaces import SearchSpace, resolve_space
from darts_ray.space.topology import CellSpace

Matrix = npt.NDArray[np.float64]


class GenotypeBuilder:
    """Collects the edges that a derivation or a draw keeps in a space.

    Args:
        space: gives the skeleton, the outputs and the predecessors.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._nodes: dict[str, list[list[Edge]]] = {
            cell.name: [[] for _ in range(cell.nodes)] for cell in space.cells
        }

    def keep(self, cell: str, row: int, column: int) -> None:
        """Keep the edge of a row of alphas, with the primitive of a column."""
        edge = self._space.cell(cell).edges[row]
        self._nodes[cell][edge.node].append(Edge(edge.primitives[column], edge.source))

    def build(self) -> Genotype:
        """Return the genotype of all kept edges."""
        return Genotype(
            self._nodes,
            {cell.name: cell.output_states for cell in self._space.cells},
            self._space.cells[0].output,
            self._space.skeleton,
        )


def softmax_alphas(alphas: Any, mask: npt.NDArray[np.bool_] | None = None) -> Matrix:
    """Return the row-wise softmax of an alpha matrix in float64.

    Args:
        alphas: shape (num_edges, num_primitives); an array, nested lists or a torch tensor.
        mask: of the same shape; where it is False the weight is 0. None: nowhere.
    """
    matrix = _matrix(alphas)
    if mask is not None:
        matrix = np.where(mask, matrix, -np.inf)
    exponentials = np.exp(matrix - matrix.max(axis=-1, keepdims=True))
    weights: Matrix = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return weights


def derive(alphas: Mapping[str, Any], space: str | SearchSpace = "darts") -> Genotype:
    """Keep the strongest edges per node, each with its best primitive.

    The strength is the *softmaxed* alpha; `none` takes part in the softmax. The rest is
    `derive_strengths`.

    Args:
        alphas: raw alphas by kind of cell, each of shape (num_edges, num_primitives).
        space: a `SearchSpace`, whose shapes the alphas have; or the name of one, then the number
            of nodes follows from the number of rows.

    Raises:
        ConfigError: a matrix is missing, misshapen or not finite.
    """
    resolved = _fitting_space(alphas, space)
    strengths = {}
    for cell in resolved.cells:
        matrix = _checked(cell, alphas[cell.name], resolved.name)
        strengths[cell.name] = softmax_alphas(matrix, cell.mask())
    return derive_strengths(strengths, resolved)


def derive_strengths(strengths: Mapping[str, Any], space: str | SearchSpace) -> Genotype:
    """Keep the strongest edges per node, each with its strongest primitive.

    The strength of an edge is the largest one among its primitives other than `none`. Ties go to
    the lower predecessor, then to the earlier primitive. The strongest edge of a node is listed
    first. A cell that keeps every edge lists them by predecessor and may choose `none`: there
    `none` is how an edge is left out.

    Args:
        strengths: by kind of cell, each of shape (num_edges, num_primitives).
        space: as in `derive`.

    Raises:
        ConfigError: a matrix is missing, misshapen or not finite.
    """
    resolved = _fitting_space(strengths, space)
    builder = GenotypeBuilder(resolved)
    for cell in resolved.cells:
        matrix = np.where(
            _eligible(cell), _checked(cell, strengths[cell.name], resolved.name), -np.inf
        )
        columns = matrix.argmax(axis=1)  # the first of equal ones
        for node in range(cell.nodes):
            rows = np.array(cell.rows(node))
            if cell.keep is not None:
                # A stable sort keeps the lower predecessor first among equally strong edges.
                order = np.argsort(-matrix[rows].max(axis=1), kind="stable")
                rows = rows[order[: cell.keep]]
            for row in rows:
                builder.keep(cell.name, int(row), int(columns[row]))
    return builder.build()


def _eligible(cell: CellSpace) -> npt.NDArray[np.bool_]:
    """Return (edges, columns): True where a primitive can be derived."""
    eligible = cell.mask()
    if cell.keep is not None:
        for row, edge in enumerate(cell.edges):
            if "none" in edge.primitives:
                eligible[row, edge.primitives.index("none")] = False
    return eligible


def _fitting_space(matrices: Mapping[str, Any], space: str | SearchSpace) -> SearchSpace:
    resolved = resolve_space(space)
    if set(matrices) != set(resolved.cell_names):
        raise ConfigError(
            f"derive: alphas have the cells {sorted(matrices)}; the space {resolved.name!r} has"
            f" {sorted(resolved.cell_names)}."
        )
    if isinstance(space, SearchSpace):
        return resolved
    cell = resolved.cells[0]
    rows = len(matrices[cell.name])
    nodes = rows_to_nodes(rows, cell.inputs)
    if nodes is None:
        raise ConfigError(f"derive: {rows} edges do not fill whole nodes ({cell.name!r}).")
    return resolved.resized(nodes)


def rows_to_nodes(rows: int, inputs: int) -> int | None:
    """Return how many nodes a complete cell of so many edges has; None if none has so many."""
    nodes = 0
    while rows > 0:
        rows -= inputs + nodes
        nodes += 1
    return nodes if rows == 0 and nodes else None


def _matrix(values: Any) -> Matrix:
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def _checked(cell: CellSpace, values: Any, space: str) -> Matrix:
    matrix = _matrix(values)
    shape = (cell.num_edges, cell.num_primitives)
    if matrix.ndim != 2 or matrix.shape[1] != shape[1]:
        raise ConfigError(
            f"derive: alphas of {cell.name!r} have shape {matrix.shape}; the space {space!r} has"
            f" {shape[1]} primitives (columns)."
        )
    if matrix.shape[0] != shape[0]:
        raise ConfigError(
            f"derive: alphas of {cell.name!r} have {matrix.shape[0]} edges (rows); the space"
            f" {space!r} has {shape[0]}. Give a space of another size as space.resized(nodes)."
        )
    if not np.isfinite(matrix).all():
        raise ConfigError(f"derive: alphas of {cell.name!r} are not finite.")
    return matrix
