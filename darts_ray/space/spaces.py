"""Search spaces as data: which primitives, how many nodes, how many edges survive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from darts_ray.errors import ConfigError

CONV_PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
RECURRENT_PRIMITIVES = ("none", "tanh", "relu", "sigmoid", "identity")


@dataclass(frozen=True)
class SearchSpace:
    """What a search may choose from.

    Attributes:
        name: how configurations refer to the space.
        kind: `conv` (two cell kinds, two inputs) or `recurrent` (one cell kind, one input).
        primitives: names in the order of the alpha columns; `none` may be left out.
        nodes: intermediate nodes per cell.
        edges_per_node: edges that `derive` keeps per node.
        multiplier: how many nodes, counted from the last, a conv cell's output concatenates;
            None: all.
    """

    name: str
    kind: Literal["conv", "recurrent"]
    primitives: tuple[str, ...]
    nodes: int
    edges_per_node: int
    multiplier: int | None = None

    def __post_init__(self) -> None:
        """Check the values against each other."""
        object.__setattr__(self, "primitives", tuple(self.primitives))
        where = f"Search space {self.name!r}"
        if self.kind not in ("conv", "recurrent"):
            raise ConfigError(f"{where}: kind must be 'conv' or 'recurrent', not {self.kind!r}.")
        if len(set(self.primitives)) != len(self.primitives):
            raise ConfigError(f"{where}: a primitive is named twice: {list(self.primitives)}.")
        if not set(self.primitives) - {"none"}:
            raise ConfigError(f"{where}: needs at least one primitive besides 'none'.")
        if self.nodes < 1 or self.edges_per_node < 1:
            raise ConfigError(f"{where}: nodes and edges_per_node must be at least 1.")
        if self.kind == "recurrent" and self.edges_per_node != 1:
            raise ConfigError(f"{where}: a recurrent cell keeps exactly one edge per node.")
        if self.multiplier is not None and self.kind == "recurrent":
            raise ConfigError(f"{where}: only conv cells have an output multiplier.")
        self.num_outputs(self.nodes)

    @property
    def num_inputs(self) -> int:
        """States that exist before the first node: 2 for conv cells, 1 for recurrent ones."""
        return 2 if self.kind == "conv" else 1

    @property
    def cells(self) -> tuple[str, ...]:
        """The kinds of cell, which are the keys of a supernet's alphas."""
        return ("normal", "reduce") if self.kind == "conv" else ("recurrent",)

    def num_outputs(self, nodes: int) -> int:
        """Nodes that a cell of so many nodes concatenates.

        Raises:
            ConfigError: the multiplier is larger, or 0.
        """
        if self.multiplier is not None and not 1 <= self.multiplier <= nodes:
            raise ConfigError(
                f"Search space {self.name!r}: multiplier must be from 1 to the number of nodes,"
                f" {nodes}, not {self.multiplier}."
            )
        return self.multiplier or nodes

    def num_edges(self, nodes: int | None = None) -> int:
        """Rows of an alpha matrix: sum over nodes of their possible predecessors."""
        return sum(self.num_inputs + node for node in range(nodes or self.nodes))


class SpaceRegistry(Mapping[str, SearchSpace]):
    """The named spaces; read as a mapping, extended with `register`."""

    def __init__(self, *named: SearchSpace) -> None:
        """Start with the given spaces."""
        self._spaces = {space.name: space for space in named}

    def __getitem__(self, name: str) -> SearchSpace:
        """Return the space of that name."""
        return self._spaces[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._spaces)

    def __len__(self) -> int:
        """Return the number of spaces."""
        return len(self._spaces)

    def register(self, space: SearchSpace) -> SearchSpace:
        """Add a space under its name; the same definition may be registered again.

        Raises:
            ConfigError: another space has that name.
        """
        if self._spaces.get(space.name, space) != space:
            raise ConfigError(f"A different search space is already named {space.name!r}.")
        self._spaces[space.name] = space
        return space


spaces = SpaceRegistry(
    SearchSpace("darts", "conv", CONV_PRIMITIVES, nodes=4, edges_per_node=2),
    SearchSpace("recurrent", "recurrent", RECURRENT_PRIMITIVES, nodes=8, edges_per_node=1),
)


def resolve_space(space: str | SearchSpace) -> SearchSpace:
    """Return a space given by name or by value.

    Raises:
        ConfigError: no space has that name.
    """
    if isinstance(space, SearchSpace):
        return space
    if space not in spaces:
        raise ConfigError(f"No search space is named {space!r}; there are: {', '.join(spaces)}.")
    return spaces[space]
