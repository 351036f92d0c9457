"""The edges of a genotype, node by node, and the checks that they form a cell."""

from __future__ import annotations

from typing import NamedTuple

from darts_ray.errors import ConfigError
from darts_ray.space.topology import Output


class Edge(NamedTuple):
    """One kept edge: the primitive applied to the output of `predecessor`.

    Predecessors are states, which count as in the paper: a cell's inputs come first, then its
    nodes. In a conv cell 0 and 1 are the outputs of the two previous cells and 2 is the first
    node; in a recurrent cell 0 is the transformed input and 1 the first node.
    """

    primitive: str
    predecessor: int


Node = tuple[Edge, ...]


def to_nodes(cell: str, values: object, num_inputs: int) -> tuple[Node, ...]:
    """Return the nodes of a cell, each a tuple of edges.

    Raises:
        ConfigError: they are no nodes, or an edge reads from a state that does not exist yet.
    """
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"Genotype: {cell} must be a list of nodes, each a list of edges.")
    nodes = []
    for index, node in enumerate(values):
        if not isinstance(node, list | tuple):
            raise ConfigError(f"Genotype: {cell} node {index} must be a list of edges.")
        edges = tuple(to_edge(f"{cell} node {index}", value) for value in node)
        for edge in edges:
            if not 0 <= edge.predecessor < num_inputs + index:
                raise ConfigError(
                    f"Genotype: {cell} node {index} reads from {edge.predecessor}; it may read"
                    f" from 0 to {num_inputs + index - 1}."
                )
        nodes.append(edges)
    if not any(nodes):
        raise ConfigError(f"Genotype: {cell} has no edges.")
    return tuple(nodes)


def to_edge(place: str, value: object) -> Edge:
    """Return a pair (primitive, predecessor) as an edge.

    Raises:
        ConfigError: it is no such pair.
    """
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or not isinstance(pair[0], str) or type(pair[1]) is not int:
        raise ConfigError(
            f"Genotype: {place} has the edge {value!r}; it must be a pair such as"
            " ['sep_conv_3x3', 0]."
        )
    return Edge(pair[0], pair[1])


def to_output(
    cell: str, values: object, num_inputs: int, num_nodes: int, output: Output
) -> tuple[int, ...]:
    """Return the states of a cell's output; None stands for all nodes, or the last one.

    Raises:
        ConfigError: they are no states of the cell.
    """
    last = num_inputs + num_nodes
    if values is None:
        return (last - 1,) if output == "last" else tuple(range(num_inputs, last))
    if not isinstance(values, list | tuple | range):
        raise ConfigError(f"Genotype: the output of {cell} must be a list of states.")
    states = tuple(values)
    if not states or any(type(state) is not int or not 0 <= state < last for state in states):
        raise ConfigError(
            f"Genotype: the output of {cell} is {list(states)}; it must name states from 0 to"
            f" {last - 1}."
        )
    if output == "last" and len(states) > 1:
        raise ConfigError(
            f"Genotype: the output of {cell} is {list(states)}; output 'last' takes one state."
        )
    return states
