"""Cells as graphs: which states there are and which primitives each edge may hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from darts_ray.errors import ConfigError

Output = Literal["concat", "mean", "last"]


@dataclass(frozen=True)
class EdgeSpace:
    """One edge of a cell and what may stand on it.

    Attributes:
        source: the state that the edge leaves; a cell's inputs come first, then its nodes.
        node: the node that it enters, counted from 0.
        primitives: names in the order of the alpha columns.
    """

    source: int
    node: int
    primitives: tuple[str, ...]

    def __post_init__(self) -> None:
        """Turn lists into tuples."""
        object.__setattr__(self, "primitives", tuple(self.primitives))


@dataclass(frozen=True)
class CellSpace:
    """One kind of cell: its edges, and how its output is made.

    Attributes:
        name: the key of its alphas.
        inputs: states that exist before the first node.
        edges: sorted by node, then source; this is the order of the rows of alphas.
        output: how the states of the output are put together; `last` takes one state.
        keep: edges that a derivation keeps per node; None keeps every edge.
        num_outputs: how many nodes, counted from the last, the output takes; None: all.

    Raises:
        ConfigError: the edges do not form a cell.
    """

    name: str
    inputs: int
    edges: tuple[EdgeSpace, ...]
    output: Output = "concat"
    keep: int | None = 2
    num_outputs: int | None = None

    def __post_init__(self) -> None:
        """Sort the edges and check that they form a cell."""
        edges = tuple(sorted(self.edges, key=lambda edge: (edge.node, edge.source)))
        object.__setattr__(self, "edges", edges)
        self._check_edges()
        if self.output not in get_args(Output):
            raise self._error(f"output must be one of {', '.join(get_args(Output))}")
        if self.keep is not None and self.keep < 1:
            raise self._error("keep must be at least 1, or None for every edge")
        if self.output == "last":
            if self.num_outputs not in (None, 1):
                raise self._error("output 'last' takes one node; leave num_outputs out")
            object.__setattr__(self, "num_outputs", 1)
        if self.num_outputs is not None and not 1 <= self.num_outputs <= self.nodes:
            raise self._error(
                f"num_outputs must be from 1 to the number of nodes, {self.nodes}, not"
                f" {self.num_outputs}"
            )

    @classmethod
    def complete(
        cls,
        name: str,
        *,
        inputs: int,
        nodes: int,
        primitives: Iterable[str],
        keep: int | None,
        output: Output = "concat",
        num_outputs: int | None = None,
    ) -> CellSpace:
        """Return the cell in which every state feeds every later node, with the same primitives.

        Raises:
            ConfigError: a value is out of range, or a primitive is named twice.
        """
        if nodes < 1:
            raise ConfigError(f"Cell {name!r}: needs at least one node.")
        names = tuple(primitives)
        edges = tuple(
            EdgeSpace(source, node, names)
            for node in range(nodes)
            for source in range(inputs + node)
        )
        return cls(name, inputs, edges, output, keep, num_outputs)

    def resized(self, nodes: int) -> CellSpace:
        """Return the same complete cell with another number of nodes.

        Raises:
            ConfigError: the cell is not complete, so nobody knows its further edges.
        """
        if nodes == self.nodes:
            return self
        if not self.is_complete:
            raise self._error(
                f"has {self.nodes} nodes; only a cell whose edges all exist and offer the same"
                f" primitives can have {nodes} instead"
            )
        return CellSpace.complete(
            self.name,
            inputs=self.inputs,
            nodes=nodes,
            primitives=self.primitives,
            keep=self.keep,
            output=self.output,
            num_outputs=self.num_outputs,
        )

    @cached_property
    def nodes(self) -> int:
        """The number of nodes."""
        return self.edges[-1].node + 1

    @property
    def num_edges(self) -> int:
        """Rows of alphas."""
        return len(self.edges)

    @cached_property
    def num_primitives(self) -> int:
        """Columns of alphas: the length of the longest list."""
        return max(len(edge.primitives) for edge in self.edges)

    @property
    def is_complete(self) -> bool:
        """Whether all possible edges exist and offer the same primitives."""
        nodes, inputs = self.nodes, self.inputs
        complete = len(self.edges) == nodes * inputs + nodes * (nodes - 1) // 2
        return complete and len({edge.primitives for edge in self.edges}) == 1

    @property
    def primitives(self) -> tuple[str, ...]:
        """The names that every edge offers.

        Raises:
            ConfigError: they differ from edge to edge.
        """
        if len({edge.primitives for edge in self.edges}) > 1:
            raise self._error("the primitives differ from edge to edge")
        return self.edges[0].primitives

    @property
    def all_primitives(self) -> tuple[str, ...]:
        """Every name that some edge offers, in order of appearance."""
        return tuple(dict.fromkeys(name for edge in self.edges for name in edge.primitives))

    @property
    def output_states(self) -> tuple[int, ...]:
        """The states that the output is made of."""
        last = self.inputs + self.nodes
        return tuple(range(last - (self.num_outputs or self.nodes), last))

    @cached_property
    def _rows(self) -> dict[tuple[int, int], int]:
        return {(edge.source, edge.node): row for row, edge in enumerate(self.edges)}

    def row(self, source: int, node: int) -> int:
        """Return the row of alphas that belongs to the edge from a state to a node.

        Raises:
            ConfigError: there is no such edge.
        """
        try:
            return self._rows[source, node]
        except KeyError:
            raise self._error(f"has no edge from state {source} to node {node}") from None

    def rows(self, node: int) -> tuple[int, ...]:
        """Return the rows of the edges that enter a node."""
        return tuple(row for row, edge in enumerate(self.edges) if edge.node == node)

    def leaving(self, source: int) -> tuple[int, ...]:
        """Return the rows of the edges that leave a state, in the order of their nodes."""
        return tuple(row for row, edge in enumerate(self.edges) if edge.source == source)

    def mask(self) -> npt.NDArray[np.bool_]:
        """Return (edges, columns): False where an edge's list is shorter than the longest."""
        lengths = np.array([len(edge.primitives) for edge in self.edges])
        mask: npt.NDArray[np.bool_] = np.arange(self.num_primitives) < lengths[:, None]
        return mask

    def _error(self, text: str) -> ConfigError:
        return ConfigError(f"Cell {self.name!r}: {text}.")

    def _check_edges(self) -> None:
        if self.inputs < 1:
            raise self._error("needs at least one input")
        if not self.edges:
            raise self._error("has no edges")
        taken: set[tuple[int, int]] = set()
        for edge in self.edges:
            where = f"the edge from state {edge.source} to node {edge.node}"
            if edge.node < 0 or not 0 <= edge.source < self.inputs + edge.node:
                raise self._error(
                    f"{where} cannot exist: node {edge.node} may read from the states 0 to"
                    f" {self.inputs + max(edge.node, 0) - 1} (inputs first, then earlier nodes)"
                )
            if (edge.source, edge.node) in taken:
                raise self._error(f"{where} is there twice")
            taken.add((edge.source, edge.node))
            if len(set(edge.primitives)) != len(edge.primitives):
                raise self._error(f"{where} names a primitive twice: {list(edge.primitives)}")
            if not set(edge.primitives) - {"none"}:
                raise self._error(f"{where} needs at least one primitive besides 'none'")
        entered = {node for _, node in taken}
        for node in range(max(entered)):
            if node not in entered:
                raise self._error(f"no edge enters node {node}; nodes count from 0 without gaps")
