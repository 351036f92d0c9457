"""Genotypes: discrete cells as data, to and from JSON and the original authors' text."""

from __future__ import annotations

import ast
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from darts_ray.errors import ConfigError


class Edge(NamedTuple):
    """One kept edge: the primitive applied to the output of `predecessor`.

    Predecessors count as in the paper: in a conv cell 0 and 1 are the outputs of the two
    previous cells and 2 is the first intermediate node; in a recurrent cell 0 is the
    transformed input and 1 the first intermediate node.
    """

    primitive: str
    predecessor: int


class Genotype(ABC):
    """A derived architecture; `ConvGenotype` or `RecurrentGenotype`."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the key `kind`."""

    @abstractmethod
    def cells(self) -> dict[str, tuple[tuple[Edge, ...], ...]]:
        """Return, by cell kind, the edges that enter each intermediate node."""

    def to_json(self) -> str:
        """Return one line of JSON that `Genotype.from_json` reads back to an equal genotype."""
        return json.dumps(self.to_dict())

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Genotype:
        """Build the genotype that `to_dict` wrote.

        Raises:
            ConfigError: a key is missing or unknown, or an edge does not fit the cell.
        """
        kinds: dict[str, type[ConvGenotype] | type[RecurrentGenotype]] = {
            "conv": ConvGenotype,
            "recurrent": RecurrentGenotype,
        }
        fields = dict(values)
        kind = fields.pop("kind", None)
        if kind not in kinds:
            raise ConfigError(f"Genotype: 'kind' is {kind!r}; it must be 'conv' or 'recurrent'.")
        try:
            return kinds[kind](**fields)
        except TypeError as error:
            raise ConfigError(f"Genotype of kind {kind!r}: {error}.") from error

    @staticmethod
    def from_json(text: str) -> Genotype:
        """Read what `to_json` wrote.

        Raises:
            ConfigError: the text is not JSON or not a genotype.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"Genotype is not valid JSON: {error}.") from error
        if not isinstance(values, dict):
            raise ConfigError("Genotype JSON must be an object with the key 'kind'.")
        return Genotype.from_dict(values)

    @staticmethod
    def parse(text: str) -> Genotype:
        """Read a genotype from JSON or from the original code's printed `Genotype(...)`.

        The text is parsed as a literal and never evaluated; `range(2, 6)` is understood because
        the original code prints it as a concat.

        Raises:
            ConfigError: the text is neither of the two.
        """
        stripped = text.strip()
        if stripped.startswith("{"):
            return Genotype.from_json(stripped)
        try:
            call = ast.parse(stripped, mode="eval").body
        except SyntaxError as error:
            raise ConfigError(f"Genotype text cannot be parsed: {error.msg}.") from error
        is_genotype = (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "Genotype"
            and not call.args
        )
        if not is_genotype:
            raise ConfigError(
                "Genotype text must be JSON or look like Genotype(normal=[...], normal_concat=..."
                ", reduce=[...], reduce_concat=...) or Genotype(recurrent=[...], concat=...)."
            )
        assert isinstance(call, ast.Call)
        fields = {str(item.arg): _literal(item.value) for item in call.keywords}
        kind = "recurrent" if "recurrent" in fields else "conv"
        return Genotype.from_dict({"kind": kind, **fields})


@dataclass(frozen=True)
class ConvGenotype(Genotype):
    """A normal and a reduction cell.

    Attributes:
        normal: edges of the normal cell, node after node, strongest first within a node.
        normal_concat: states whose outputs are concatenated into the cell's output.
        reduce: edges of the reduction cell.
        reduce_concat: as `normal_concat`.
        edges_per_node: edges kept per node; a node with fewer predecessors keeps them all.
    """

    normal: tuple[Edge, ...]
    normal_concat: tuple[int, ...]
    reduce: tuple[Edge, ...]
    reduce_concat: tuple[int, ...]
    edges_per_node: int = 2

    def __post_init__(self) -> None:
        """Normalise lists to tuples and check every edge."""
        _check_count("edges_per_node", self.edges_per_node)
        for cell in ("normal", "reduce"):
            edges = _edges(cell, getattr(self, cell))
            object.__setattr__(self, cell, edges)
            nodes = _group(cell, edges, num_inputs=2, edges_per_node=self.edges_per_node)
            concat = _concat(f"{cell}_concat", getattr(self, f"{cell}_concat"), len(nodes) + 2)
            object.__setattr__(self, f"{cell}_concat", concat)

    def cells(self) -> dict[str, tuple[tuple[Edge, ...], ...]]:
        """Return `{"normal": nodes, "reduce": nodes}`; each node is a tuple of its edges."""
        return {
            cell: _group(cell, getattr(self, cell), 2, self.edges_per_node)
            for cell in ("normal", "reduce")
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the key `kind`."""
        return {
            "kind": "conv",
            "normal": [list(edge) for edge in self.normal],
            "normal_concat": list(self.normal_concat),
            "reduce": [list(edge) for edge in self.reduce],
            "reduce_concat": list(self.reduce_concat),
            "edges_per_node": self.edges_per_node,
        }


@dataclass(frozen=True)
class RecurrentGenotype(Genotype):
    """A recurrent cell: one activation and one predecessor per node.

    Attributes:
        recurrent: the edge that enters each node, node after node.
        concat: states (1 is the first node) whose mean is the cell's output.
    """

    recurrent: tuple[Edge, ...]
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        """Normalise lists to tuples and check every edge."""
        edges = _edges("recurrent", self.recurrent)
        object.__setattr__(self, "recurrent", edges)
        nodes = _group("recurrent", edges, num_inputs=1, edges_per_node=1)
        object.__setattr__(self, "concat", _concat("concat", self.concat, len(nodes) + 1))

    def cells(self) -> dict[str, tuple[tuple[Edge, ...], ...]]:
        """Return `{"recurrent": nodes}`; each node is a tuple with its one edge."""
        return {"recurrent": _group("recurrent", self.recurrent, 1, 1)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the key `kind`."""
        return {
            "kind": "recurrent",
            "recurrent": [list(edge) for edge in self.recurrent],
            "concat": list(self.concat),
        }


def _literal(node: ast.expr) -> Any:
    """Return the value of a literal, or of `range(a, b)` with literal bounds."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [_literal(argument) for argument in node.args]
        if (
            1 <= len(bounds) <= 3
            and all(type(bound) is int and abs(bound) < 1000 for bound in bounds)
            and 0 not in bounds[2:]
        ):
            return list(range(*bounds))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ConfigError(
            f"Genotype text holds something that is no literal: {ast.unparse(node)[:80]}."
        ) from error


def _check_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise ConfigError(f"Genotype: {name} must be a positive integer, not {value!r}.")


def _edges(cell: str, values: object) -> tuple[Edge, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ConfigError(f"Genotype: {cell} must be a list of [primitive, predecessor] pairs.")
    edges = []
    for position, value in enumerate(values):
        pair = tuple(value) if isinstance(value, Sequence) else ()
        if len(pair) != 2 or not isinstance(pair[0], str) or type(pair[1]) is not int:
            raise ConfigError(
                f"Genotype: {cell}[{position}] is {value!r}; it must be a pair such as"
                " ['sep_conv_3x3', 0]."
            )
        edges.append(Edge(pair[0], pair[1]))
    return tuple(edges)


def _group(
    cell: str, edges: Sequence[Edge], num_inputs: int, edges_per_node: int
) -> tuple[tuple[Edge, ...], ...]:
    """Split the flat edge list into nodes; node i has min(edges_per_node, i + num_inputs)."""
    nodes: list[tuple[Edge, ...]] = []
    rest = list(edges)
    while rest:
        num_predecessors = len(nodes) + num_inputs
        size = min(edges_per_node, num_predecessors)
        node, rest = tuple(rest[:size]), rest[size:]
        if len(node) < size:
            raise ConfigError(
                f"Genotype: {cell} has {len(edges)} edges; node {len(nodes)} needs {size}."
            )
        for edge in node:
            if not 0 <= edge.predecessor < num_predecessors:
                raise ConfigError(
                    f"Genotype: {cell} node {len(nodes)} reads from {edge.predecessor}; it may"
                    f" read from 0 to {num_predecessors - 1}."
                )
        nodes.append(node)
    if not nodes:
        raise ConfigError(f"Genotype: {cell} has no edges.")
    return tuple(nodes)


def _concat(name: str, values: object, num_states: int) -> tuple[int, ...]:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise ConfigError(f"Genotype: {name} must be a list of states.")
    states = tuple(values)
    if not states or any(
        type(state) is not int or not 0 <= state < num_states for state in states
    ):
        raise ConfigError(
            f"Genotype: {name} is {list(states)}; it must name states from 0 to {num_states - 1}."
        )
    return states
