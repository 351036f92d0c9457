"""Genotypes: discrete cells as data, to and from JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

from darts_ray.errors import ConfigError
from darts_ray.space.edges import Node, to_nodes, to_output
from darts_ray.space.spaces import CELLS, Skeleton
from darts_ray.space.topology import Output

FORMAT = 2
"""Of the JSON. Format 1 had no number; it is read, see `first_format`."""

_OUTPUTS: dict[str, Output] = {
    "darts": "concat",
    "nasbench201": "last",
    "language_model": "mean",
}


class Genotype:
    """A derived architecture; immutable, hashable, comparable.

    Attributes:
        cells: by kind of cell its nodes; a node is the tuple of the edges that enter it, strongest
            first, and may be empty.
        outputs: by kind of cell the states that its output is made of.
        output: how they are put together: `concat`, `mean` or `last`.
        skeleton: what the cells are put into, see `SearchSpace`.

    The attributes of the original code's tuples work where such a cell exists: `normal`,
    `normal_concat`, `reduce`, `reduce_concat`, `recurrent`, `concat`.

    Args:
        cells: nodes by kind of cell; an edge is a pair (primitive, predecessor).
        outputs: None: all nodes, or the last one if `output` is `last`.
        output: None: what the skeleton does.
        skeleton: None: follows from the names of the cells.

    Raises:
        ConfigError: the cells fit no skeleton, or an edge or output does not fit its cell.
    """

    cells: Mapping[str, tuple[Node, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    output: Output
    skeleton: Skeleton

    __slots__ = ("cells", "output", "outputs", "skeleton")

    def __init__(
        self,
        cells: Mapping[str, Any],
        outputs: Mapping[str, Any] | None = None,
        output: Output | None = None,
        skeleton: Skeleton | None = None,
    ) -> None:
        skeleton = _skeleton(cells, skeleton)
        output = _OUTPUTS[skeleton] if output is None else output
        if output not in get_args(Output):
            raise ConfigError(
                f"Genotype: output is {output!r}; it must be one of {', '.join(get_args(Output))}."
            )
        if outputs is not None and set(outputs) - set(cells):
            raise ConfigError(
                f"Genotype: outputs names {sorted(set(outputs) - set(cells))}; the cells are"
                f" {list(cells)}."
            )
        inputs = CELLS[skeleton]
        nodes = {cell: to_nodes(cell, cells[cell], inputs[cell]) for cell in inputs}
        states = {
            cell: to_output(
                cell, (outputs or {}).get(cell), inputs[cell], len(nodes[cell]), output
            )
            for cell in inputs
        }
        if skeleton == "language_model":
            for index, node in enumerate(nodes["recurrent"]):
                if len(node) != 1:
                    raise ConfigError(
                        f"Genotype: recurrent node {index} has {len(node)} edges; a recurrent node"
                        " has exactly one."
                    )
        for name, value in (
            ("cells", MappingProxyType(nodes)),
            ("outputs", MappingProxyType(states)),
            ("output", output),
            ("skeleton", skeleton),
        ):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: genotypes are keys of tables."""
        raise AttributeError(f"A genotype cannot be changed ({name}).")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by value."""
        arguments = dict(self.cells), dict(self.outputs), self.output, self.skeleton
        return (Genotype, arguments)

    def _key(self) -> tuple[object, ...]:
        cells = tuple(self.cells.items())
        return (self.skeleton, cells, tuple(self.outputs.items()), self.output)

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        return self._key() == other._key() if isinstance(other, Genotype) else NotImplemented

    def __hash__(self) -> int:
        """Hash by value."""
        return hash(self._key())

    def __repr__(self) -> str:
        """Show the constructor's arguments."""
        return (
            f"Genotype({dict(self.cells)}, {dict(self.outputs)}, {self.output!r},"
            f" {self.skeleton!r})"
        )

    @property
    def normal(self) -> Node:
        """The edges of the normal cell, node after node."""
        return self._flat("normal")

    @property
    def normal_concat(self) -> tuple[int, ...]:
        """The states of the normal cell's output."""
        return self._states("normal")

    @property
    def reduce(self) -> Node:
        """The edges of the reduction cell, node after node."""
        return self._flat("reduce")

    @property
    def reduce_concat(self) -> tuple[int, ...]:
        """The states of the reduction cell's output."""
        return self._states("reduce")

    @property
    def recurrent(self) -> Node:
        """The edge of each node of the recurrent cell."""
        return self._flat("recurrent")

    @property
    def concat(self) -> tuple[int, ...]:
        """The states of the recurrent cell's output."""
        return self._states("recurrent")

    def _flat(self, cell: str) -> Node:
        self._check_has(cell)
        return tuple(edge for node in self.cells[cell] for edge in node)

    def _states(self, cell: str) -> tuple[int, ...]:
        self._check_has(cell)
        return self.outputs[cell]

    def _check_has(self, cell: str) -> None:
        if cell not in self.cells:
            raise AttributeError(f"The genotype has no cell {cell!r}; it has {list(self.cells)}.")

    @property
    def edges_per_node(self) -> int:
        """The largest number of edges that enter one node."""
        return max(len(node) for nodes in self.cells.values() for node in nodes)

    def num_inputs(self, cell: str) -> int:
        """Return how many states of a kind of cell exist before its first node."""
        return CELLS[self.skeleton][cell]

    def counts(self, cell: str | None = None) -> Counter[str]:
        """Return how often each primitive occurs, in one kind of cell or in all."""
        cells = self.cells.values() if cell is None else [self.cells[cell]]
        return Counter(edge.primitive for nodes in cells for node in nodes for edge in node)

    @property
    def num_skip(self) -> int:
        """Skip connections in the normal cell, or in the only one: the measure of collapse."""
        return self.counts(next(iter(self.cells)))["skip_connect"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the key `format`."""
        return {
            "format": FORMAT,
            "skeleton": self.skeleton,
            "cells": {
                cell: [[list(edge) for edge in node] for node in nodes]
                for cell, nodes in self.cells.items()
            },
            "outputs": {cell: list(states) for cell, states in self.outputs.items()},
            "output": self.output,
        }

    def to_json(self) -> str:
        """Return one line of JSON that `Genotype.from_json` reads back to an equal genotype."""
        return json.dumps(self.to_dict())

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Genotype:
        """Build the genotype that `to_dict` wrote, today or in the first format.

        Raises:
            ConfigError: a key is missing or unknown, or an edge does not fit the cell.
        """
        if "kind" in values:
            from darts_ray.space.first_format import from_first_format

            return from_first_format(values)
        fields = dict(values)
        number = fields.pop("format", None)
        if number != FORMAT:
            raise ConfigError(
                f"Genotype: 'format' is {number!r}; this version reads format {FORMAT}, and the"
                " first format, whose key 'kind' is 'conv' or 'recurrent'."
            )
        for key in ("cells", "outputs"):
            if not isinstance(fields.get(key, {}), Mapping):
                raise ConfigError(f"Genotype: {key!r} must be an object with an entry per cell.")
        try:
            return Genotype(**fields)
        except TypeError as error:
            raise ConfigError(f"Genotype: {error}.") from error

    @staticmethod
    def from_json(text: str) -> Genotype:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: the text is not JSON or not a genotype.
        """
        try:
            values = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ConfigError(f"Genotype is not valid JSON: {error}.") from error
        if not isinstance(values, dict):
            raise ConfigError("Genotype JSON must be an object with the key 'format'.")
        return Genotype.from_dict(values)

    @staticmethod
    def parse(text: str) -> Genotype:
        """Read a genotype from the texts that people have; see `darts_ray.space.reading`.

        Raises:
            ConfigError: the text holds no genotype; says which part was not understood.
        """
        from darts_ray.space.reading import read_genotype

        return read_genotype(text)


def _skeleton(cells: Mapping[str, Any], skeleton: Skeleton | None) -> Skeleton:
    for name in get_args(Skeleton):
        if set(CELLS[name]) == set(cells) and skeleton in (None, name):
            return name  # type: ignore[no-any-return]
    needed = "; ".join(f"{name}: {', '.join(inputs)}" for name, inputs in CELLS.items())
    asked = "" if skeleton is None else f" and the skeleton {skeleton!r}"
    raise ConfigError(
        f"Genotype: has the cells {list(cells)}{asked}; the skeletons have ({needed})."
    )
