"""The flat cells of the original code, which were our first format as well.

Such a cell is a list of edges without node boundaries; every node has the same number of edges,
or all its predecessors if there are fewer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from darts_ray.errors import ConfigError
from darts_ray.space.edges import Edge, Node, to_edge
from darts_ray.space.genotype import Genotype


class _Former(type):
    """Lets `isinstance` go on telling the two kinds of genotype apart."""

    skeleton: str

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Genotype) and instance.skeleton == cls.skeleton


class ConvGenotype(metaclass=_Former):
    """Builds a `Genotype` from flat normal and reduction cells.

    Args:
        normal: edges of the normal cell, node after node.
        normal_concat: states that are concatenated into the cell's output.
        reduce: edges of the reduction cell.
        reduce_concat: as `normal_concat`.
        edges_per_node: edges kept per node; a node with fewer predecessors keeps them all.
    """

    skeleton = "darts"

    def __new__(  # type: ignore[misc]
        cls,
        normal: Sequence[Any],
        normal_concat: Sequence[int],
        reduce: Sequence[Any],
        reduce_concat: Sequence[int],
        edges_per_node: int = 2,
    ) -> Genotype:
        """Return the genotype."""
        if type(edges_per_node) is not int or edges_per_node < 1:
            raise ConfigError(
                f"Genotype: edges_per_node must be a positive integer, not {edges_per_node!r}."
            )
        flat = {"normal": normal, "reduce": reduce}
        return Genotype(
            {cell: group_edges(cell, edges, 2, edges_per_node) for cell, edges in flat.items()},
            {"normal": normal_concat, "reduce": reduce_concat},
        )


class RecurrentGenotype(metaclass=_Former):
    """Builds a `Genotype` from the flat edges of a recurrent cell.

    Args:
        recurrent: the edge that enters each node, node after node.
        concat: states (1 is the first node) whose mean is the cell's output.
    """

    skeleton = "language_model"

    def __new__(  # type: ignore[misc]
        cls, recurrent: Sequence[Any], concat: Sequence[int]
    ) -> Genotype:
        """Return the genotype."""
        nodes = group_edges("recurrent", recurrent, 1, 1)
        return Genotype({"recurrent": nodes}, {"recurrent": concat})


def from_first_format(values: Mapping[str, Any]) -> Genotype:
    """Build the genotype that the first format's JSON describes.

    Raises:
        ConfigError: a key is missing or unknown, or an edge does not fit the cell.
    """
    builders: dict[str, Any] = {"conv": ConvGenotype, "recurrent": RecurrentGenotype}
    fields = dict(values)
    kind = fields.pop("kind")
    if not isinstance(kind, str) or kind not in builders:
        raise ConfigError(f"Genotype: 'kind' is {kind!r}; it must be 'conv' or 'recurrent'.")
    try:
        genotype: Genotype = builders[kind](**fields)
    except TypeError as error:
        message = str(error).replace("__new__()", "genotype")
        raise ConfigError(f"Genotype of kind {kind!r}: {message}.") from error
    return genotype


def group_edges(
    cell: str, edges: object, num_inputs: int, edges_per_node: int
) -> tuple[Node, ...]:
    """Split a flat list into nodes; node i has min(edges_per_node, i + num_inputs) edges.

    Raises:
        ConfigError: the list does not fill whole nodes.
    """
    if not isinstance(edges, list | tuple):
        raise ConfigError(f"Genotype: {cell} must be a list of [primitive, predecessor] pairs.")
    rest = [to_edge(f"{cell}[{position}]", edge) for position, edge in enumerate(edges)]
    nodes: list[tuple[Edge, ...]] = []
    while rest:
        size = min(edges_per_node, len(nodes) + num_inputs)
        node, rest = tuple(rest[:size]), rest[size:]
        if len(node) < size:
            raise ConfigError(
                f"Genotype: {cell} has {len(edges)} edges; node {len(nodes)} needs {size}."
            )
        nodes.append(node)
    return tuple(nodes)


def fingerprint(genotype: Genotype) -> str:
    """Return a hexadecimal hash that is the same in every version of this package.

    What the first format can express is hashed in it, because finished trials of older studies
    have their names from there.
    """
    text = json.dumps(_to_first_format(genotype) or genotype.to_dict())
    return hashlib.sha256(text.encode()).hexdigest()


def _to_first_format(genotype: Genotype) -> dict[str, Any] | None:
    if genotype.skeleton == "language_model" and genotype.output == "mean":
        return {
            "kind": "recurrent",
            "recurrent": [list(edge) for edge in genotype.recurrent],
            "concat": list(genotype.concat),
        }
    if genotype.skeleton != "darts" or genotype.output != "concat":
        return None
    size = genotype.edges_per_node
    for nodes in genotype.cells.values():
        if any(len(node) != min(size, 2 + index) for index, node in enumerate(nodes)):
            return None
    return {
        "kind": "conv",
        "normal": [list(edge) for edge in genotype.normal],
        "normal_concat": list(genotype.normal_concat),
        "reduce": [list(edge) for edge in genotype.reduce],
        "reduce_concat": list(genotype.reduce_concat),
        "edges_per_node": size,
    }
