"""Search spaces as data, and the named ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from darts_ray.errors import ConfigError
from darts_ray.space.topology import CellSpace, Output

if TYPE_CHECKING:
    from darts_ray.space.genotype import Genotype
    from darts_ray.space.sampling import Distribution, Generator

Skeleton = Literal["darts", "nasbench201", "language_model"]

CELLS: dict[str, dict[str, int]] = {
    "darts": {"normal": 2, "reduce": 2},
    "nasbench201": {"cell": 1},
    "language_model": {"recurrent": 1},
}
"""Of each skeleton its kinds of cell and the number of inputs that it gives them."""

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
NASBENCH201_PRIMITIVES = (
    "none",
    "skip_connect",
    "nor_conv_1x1",
    "nor_conv_3x3",
    "avg_pool_3x3",
)


@dataclass(frozen=True)
class SearchSpace:
    """What a search may choose from.

    Attributes:
        name: how configurations refer to the space.
        cells: the kinds of cell.
        skeleton: what the cells are put into: `darts` stacks a normal and a reduction cell with
            two inputs, `nasbench201` one kind of cell with one input and residual blocks between,
            `language_model` runs one recurrent cell over the time steps.

    Raises:
        ConfigError: the cells do not fit the skeleton.
    """

    name: str
    cells: tuple[CellSpace, ...]
    skeleton: Skeleton = "darts"

    def __post_init__(self) -> None:
        """Check that the cells fit the skeleton."""
        object.__setattr__(self, "cells", tuple(self.cells))
        where = f"Search space {self.name!r}"
        if self.skeleton not in get_args(Skeleton):
            raise ConfigError(
                f"{where}: skeleton must be one of {', '.join(get_args(Skeleton))}, not"
                f" {self.skeleton!r}."
            )
        inputs = CELLS[self.skeleton]
        if sorted(cell.name for cell in self.cells) != sorted(inputs):
            raise ConfigError(
                f"{where}: has the cells {[cell.name for cell in self.cells]}; the skeleton"
                f" {self.skeleton!r} needs {list(inputs)}."
            )
        if len({cell.output for cell in self.cells}) > 1:
            raise ConfigError(f"{where}: all cells must have the same output rule.")
        for cell in self.cells:
            if cell.inputs != inputs[cell.name]:
                raise ConfigError(
                    f"{where}: the cell {cell.name!r} has {cell.inputs} inputs; the skeleton"
                    f" {self.skeleton!r} gives it {inputs[cell.name]}."
                )
            if self.skeleton == "language_model" and cell.keep != 1:
                raise ConfigError(f"{where}: a recurrent cell keeps exactly one edge per node.")
            if self.skeleton == "language_model" and cell.output != "mean":
                raise ConfigError(f"{where}: the output of a recurrent cell is a mean.")
            if (
                self.skeleton == "nasbench201"
                and len(cell.output_states) > 1
                and (cell.output == "concat")
            ):
                raise ConfigError(
                    f"{where}: cells of the skeleton 'nasbench201' keep the number of channels;"
                    " their output must be 'last' or 'mean'."
                )

    @classmethod
    def darts(
        cls,
        name: str,
        primitives: Iterable[str],
        nodes: int = 4,
        keep: int | None = 2,
        num_outputs: int | None = None,
        output: Output = "concat",
    ) -> SearchSpace:
        """Return a space of normal and reduction cells, complete, with the same primitives."""
        names = tuple(primitives)
        cells = (
            CellSpace.complete(
                cell,
                inputs=2,
                nodes=nodes,
                primitives=names,
                keep=keep,
                output=output,
                num_outputs=num_outputs,
            )
            for cell in CELLS["darts"]
        )
        return cls(name, tuple(cells), "darts")

    @classmethod
    def recurrent(cls, name: str, primitives: Iterable[str], nodes: int = 8) -> SearchSpace:
        """Return a space of complete recurrent cells."""
        cell = CellSpace.complete(
            "recurrent", inputs=1, nodes=nodes, primitives=primitives, keep=1, output="mean"
        )
        return cls(name, (cell,), "language_model")

    def cell(self, name: str) -> CellSpace:
        """Return the kind of cell of that name.

        Raises:
            ConfigError: there is none.
        """
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise ConfigError(
            f"The space {self.name!r} has no cell {name!r}; it has {', '.join(self.cell_names)}."
        )

    @property
    def cell_names(self) -> tuple[str, ...]:
        """The kinds of cell, which are the keys of a supernet's alphas."""
        return tuple(cell.name for cell in self.cells)

    @property
    def alpha_shapes(self) -> dict[str, tuple[int, int]]:
        """The shape (edges, columns) of the alphas of each kind of cell."""
        return {cell.name: (cell.num_edges, cell.num_primitives) for cell in self.cells}

    def resized(self, nodes: int | None) -> SearchSpace:
        """Return the space with another number of nodes in each cell; None: the same.

        Raises:
            ConfigError: a cell is not complete, or the output takes more nodes.
        """
        if nodes is None or all(cell.nodes == nodes for cell in self.cells):
            return self
        cells = tuple(cell.resized(nodes) for cell in self.cells)
        return SearchSpace(self.name, cells, self.skeleton)

    def sample(
        self, generator: Generator, *, distribution: Distribution = "derivation"
    ) -> Genotype:
        """Draw an architecture; see `darts_ray.space.sampling`."""
        from darts_ray.space.sampling import sample

        return sample(self, generator, distribution)


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


def resolve_space(space: str | SearchSpace) -> SearchSpace:
    """Return a space given by name or by value.

    Raises:
        ConfigError: no space has that name.
    """
    if isinstance(space, SearchSpace):
        return space
    if space not in spaces:
        raise ConfigError(
            f"No search space is named {space!r}; there are: {', '.join(spaces)}. One that a"
            " module of yours registers needs that module's name in `imports`."
        )
    return spaces[space]


def _nasbench201() -> SearchSpace:
    """Return the space of NAS-Bench-201: every edge of its one cell stays."""
    cell = CellSpace.complete(
        "cell", inputs=1, nodes=3, primitives=NASBENCH201_PRIMITIVES, keep=None, output="last"
    )
    return SearchSpace("nasbench201", (cell,), "nasbench201")


spaces = SpaceRegistry(
    SearchSpace.darts("darts", CONV_PRIMITIVES),
    SearchSpace.recurrent("recurrent", RECURRENT_PRIMITIVES),
    _nasbench201(),
)
