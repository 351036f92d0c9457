"""Where the parts of a drawn cell go: a small layered layout (Sugiyama's method).

Columns run from the inputs to the output; a node stands in the column after its last
predecessor. An edge that passes a column gets a lane of its own there, so it crosses no box.
Lengths are in units of one row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.optimize import isotonic_regression

from darts_ray.space import Genotype

Point = tuple[float, float]
ROW = 1.0
LANE = 0.55
SWEEPS = 12


@dataclass(eq=False)
class Item:
    """Something that takes a place in a column: an input, a node with its primitives, a lane.

    Attributes:
        name: text of the node; of a lane the node whose output passes.
        column: counted from the left.
        primitives: (label, name of the predecessor), in the order they are drawn.
        is_lane: whether an edge only passes here.
        y: centre.
    """

    name: str
    column: int
    primitives: list[tuple[str, str]] = field(default_factory=list)
    is_lane: bool = False
    y: float = 0.0

    @property
    def height(self) -> float:
        """Rows that the item needs."""
        return LANE if self.is_lane else ROW * max(1, len(self.primitives))

    def rows(self) -> list[float]:
        """Return the centre of each primitive's row, from the bottom up."""
        middle = (len(self.primitives) - 1) / 2
        return [self.y + (row - middle) * ROW for row in range(len(self.primitives))]


@dataclass(frozen=True)
class Link:
    """A piece of an edge between neighbouring columns; `row` is None unless it ends at one."""

    start: Item
    end: Item
    row: int | None


@dataclass(frozen=True)
class CellLayout:
    """The placed items by column, and the pieces of edges between them."""

    columns: list[list[Item]]
    links: list[Link]


def layout_cell(genotype: Genotype, cell: str) -> CellLayout:
    """Place one cell's inputs, nodes and output.

    Raises:
        KeyError: the genotype has no such cell.
    """
    blocks, outputs = _blocks(genotype, cell)
    output = _output_name(genotype)
    items = {name: Item(name, 0) for name in _input_names(genotype)}
    for name, edges in blocks:
        column = 1 + max((items[source].column for _, source in edges), default=0)
        items[name] = Item(name, column, list(edges))
    last = 1 + max(item.column for item in items.values())
    items[output] = Item(output, last)

    columns: list[list[Item]] = [[] for _ in range(last + 1)]
    for item in items.values():
        columns[item.column].append(item)
    links: list[Link] = []
    lanes: dict[tuple[str, int], Item] = {}

    def connect(source: str, end: Item, row: int | None) -> None:
        """Add the pieces of one edge; edges from the same node share their lanes."""
        before = items[source]
        for column in range(before.column + 1, end.column):
            lane = lanes.get((source, column))
            if lane is None:
                lane = lanes[source, column] = Item(source, column, is_lane=True)
                columns[column].append(lane)
                links.append(Link(before, lane, None))
            before = lane
        links.append(Link(before, end, row))

    for name, edges in blocks:
        if not edges:  # the transformed input of a recurrent cell
            for source in _input_names(genotype):
                connect(source, items[name], None)
        for row, (_, source) in enumerate(edges):
            connect(source, items[name], row)
    for source in outputs:
        connect(source, items[output], None)

    order = _order(columns, links)
    _place(order, links)
    return CellLayout(order, _sort_rows(links))


def _input_names(genotype: Genotype) -> tuple[str, ...]:
    return {
        "darts": ("c_{k-2}", "c_{k-1}"),
        "nasbench201": ("c_{k-1}",),
        "language_model": ("x_t", "h_{t-1}"),
    }[genotype.skeleton]


def _output_name(genotype: Genotype) -> str:
    return "h_t" if genotype.skeleton == "language_model" else "c_k"


def _blocks(
    genotype: Genotype, cell: str
) -> tuple[list[tuple[str, list[tuple[str, str]]]], list[str]]:
    """Return (node, its primitives with predecessors) in order, and the nodes that are output."""
    nodes = genotype.cells[cell]
    first = genotype.num_inputs(cell)
    if genotype.skeleton == "language_model":
        # State 0 is the transformed input and is drawn; states count as nodes do.
        names = [str(state) for state in range(len(nodes) + 1)]
        blocks: list[tuple[str, list[tuple[str, str]]]] = [("0", [])]
    else:
        names = [*_input_names(genotype), *(str(node) for node in range(len(nodes)))]
        blocks = []
    for node, edges in enumerate(nodes):
        sources = [(edge.primitive, names[edge.predecessor]) for edge in edges]
        blocks.append((names[first + node], sources))
    return blocks, [names[state] for state in dict.fromkeys(genotype.outputs[cell])]


def _order(columns: list[list[Item]], links: list[Link]) -> list[list[Item]]:
    """Return the columns ordered for few crossings: barycentre sweeps, the best one kept."""
    # Lower nodes are drawn higher up, as one reads.
    order = [list(reversed(column)) for column in columns]
    best, fewest = [list(column) for column in order], _crossings(order, links)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        indices = range(1, len(order)) if forward else range(len(order) - 2, -1, -1)
        for index in indices:
            rank = {item: place for column in order for place, item in enumerate(column)}
            order[index].sort(key=lambda item: _barycentre(item, rank, links, forward))
        crossings = _crossings(order, links)
        if crossings < fewest:
            best, fewest = [list(column) for column in order], crossings
    return best


def _barycentre(item: Item, rank: dict[Item, int], links: list[Link], forward: bool) -> float:
    ranks = (
        [rank[link.start] for link in links if link.end is item]
        if forward
        else [rank[link.end] for link in links if link.start is item]
    )
    return sum(ranks) / len(ranks) if ranks else float(rank[item])


def _crossings(order: list[list[Item]], links: list[Link]) -> int:
    rank = {item: place for column in order for place, item in enumerate(column)}
    pairs = [(link.start.column, rank[link.start], rank[link.end]) for link in links]
    return sum(
        column == other and (start - other_start) * (end - other_end) < 0
        for index, (column, start, end) in enumerate(pairs)
        for other, other_start, other_end in pairs[:index]
    )


def _place(order: list[list[Item]], links: list[Link]) -> None:
    """Set every `y`: near its neighbours, in the given order, without overlaps."""
    neighbours: dict[Item, list[Item]] = {item: [] for column in order for item in column}
    for link in links:
        neighbours[link.start].append(link.end)
        neighbours[link.end].append(link.start)
    for column in order:
        _spread(column, [0.0] * len(column))
    for _ in range(SWEEPS):
        for column in [*order, *reversed(order)]:
            wanted = [float(np.mean([other.y for other in neighbours[item]])) for item in column]
            _spread(column, wanted)


def _spread(column: list[Item], wanted: list[float]) -> None:
    """Choose the places nearest to the wanted ones (least squares) that keep order and gaps."""
    gaps = [0.0, *((a.height + b.height) / 2 + 0.3 for a, b in pairwise(column))]
    offsets = np.cumsum(gaps)
    # why: subtracting the gaps turns "far enough apart" into "not decreasing"
    places = isotonic_regression(np.asarray(wanted) - offsets).x + offsets
    for item, place in zip(column, places, strict=True):
        item.y = float(place)


def _sort_rows(links: list[Link]) -> list[Link]:
    """Reorder each node's primitives by the height at which their edges arrive."""
    result = [link for link in links if link.row is None]
    arriving: dict[Item, list[Link]] = {}
    for link in links:
        if link.row is not None:
            arriving.setdefault(link.end, []).append(link)
    for item, group in arriving.items():
        group.sort(key=lambda link: link.start.y)
        item.primitives = [item.primitives[link.row or 0] for link in group]
        result += [Link(link.start, item, row) for row, link in enumerate(group)]
    return result
