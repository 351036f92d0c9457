"""Draws a cell as a layered graph: inputs left, nodes with their primitives, output right."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

from darts_ray.space import Genotype
from darts_ray.study.report.cell_layout import CellLayout, Item, Link, Point, layout_cell

INCHES_PER_UNIT = 0.42
BOX_HEIGHT = 0.72
LETTER_WIDTH = 0.175
NODE_RADIUS = 0.42
PORT_WIDTH = 1.5
GAP = 1.7

INK = "#1f2933"
EDGE = "#8794a3"
OUTPUT_EDGE = "#c3cbd5"
FAMILIES = {
    "sep_conv": "#cfe1f7",
    "dil_conv": "#c9ebe3",
    "conv": "#d9d6f5",
    "max_pool": "#fbe0c4",
    "avg_pool": "#fdeebf",
    "skip_connect": "#e6e9ed",
    "identity": "#e6e9ed",
    "tanh": "#cfe1f7",
    "relu": "#c9ebe3",
    "sigmoid": "#fbe0c4",
}
OTHER_FAMILY = "#ecdcf4"


def draw_cell(genotype: Genotype, cell: str, image_format: Literal["svg", "png"] = "svg") -> bytes:
    """Return a picture of one cell.

    Args:
        genotype: the architecture.
        cell: `normal`, `reduce` or `recurrent`.
        image_format: `svg`, or `png` at 150 dots per inch.

    Raises:
        KeyError: the genotype has no such cell.
    """
    layout = layout_cell(genotype, cell)
    frame = _Frame.around(layout)
    items = [item for column in layout.columns for item in column]
    low = min(item.y - item.height / 2 for item in items) - 0.2
    high = max(item.y + item.height / 2 for item in items) + 0.2
    left, right = frame.lefts[0] - 0.2, frame.rights[-1] + 0.2
    figure = Figure(figsize=((right - left) * INCHES_PER_UNIT, (high - low) * INCHES_PER_UNIT))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(low, high))
    axes.set_axis_off()
    for link in layout.links:
        _draw_link(axes, frame, layout, link)
    for item in items:
        if item.is_lane:
            ends = [(frame.lefts[item.column], item.y), (frame.rights[item.column], item.y)]
            _draw_curve(axes, ends, _colour(item, layout))
        elif item.column in (0, len(layout.columns) - 1):
            x = frame.lefts[item.column]
            _draw_box(axes, x, item.y, PORT_WIDTH, f"${item.name}$", INK, "white")
        else:
            _draw_node(axes, frame, item)
    buffer = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "darts_ray", "font.family": "DejaVu Sans"}):
        metadata = {"Date": None} if image_format == "svg" else {}
        figure.savefig(buffer, format=image_format, dpi=150, metadata=metadata)
    return buffer.getvalue()


def label(primitive: str) -> str:
    """Return a primitive's name as people write it: `sep_conv_3x3` is `sep conv 3×3`."""  # noqa: RUF002
    words = primitive.split("_")
    sized = [word.replace("x", "×") if word[:1].isdigit() else word for word in words]  # noqa: RUF001
    return " ".join(sized)


@dataclass(frozen=True)
class _Frame:
    """Where each column begins and ends, and how wide the primitives' boxes are."""

    lefts: tuple[float, ...]
    rights: tuple[float, ...]
    box_width: float

    @classmethod
    def around(cls, layout: CellLayout) -> _Frame:
        """Make every box as wide as the longest name needs, and every column as its items."""
        items = [item for column in layout.columns for item in column]
        names = [label(primitive) for item in items for primitive, _ in item.primitives]
        box_width = 0.6 + LETTER_WIDTH * max(len(name) for name in names)
        lefts, rights, x = [], [], 0.0
        for index, column in enumerate(layout.columns):
            width = 2 * NODE_RADIUS
            if index in (0, len(layout.columns) - 1):
                width = PORT_WIDTH
            elif any(item.primitives for item in column):
                width += box_width + 0.5
            lefts.append(x)
            rights.append(x + width)
            x += width + GAP
        return cls(tuple(lefts), tuple(rights), box_width)


def _colour(end: Item, layout: CellLayout) -> str:
    """Return the colour of a line into `end`: light if it leads nowhere but to the output."""
    return EDGE if _feeds_node(end, layout) else OUTPUT_EDGE


def _feeds_node(item: Item, layout: CellLayout) -> bool:
    if not item.is_lane:
        return item.column < len(layout.columns) - 1
    return any(_feeds_node(link.end, layout) for link in layout.links if link.start is item)


def _draw_link(axes: Axes, frame: _Frame, layout: CellLayout, link: Link) -> None:
    colour = _colour(link.end, layout)
    x = frame.lefts[link.end.column]
    y = link.end.y if link.row is None else link.end.rows()[link.row]
    _draw_curve(axes, [(frame.rights[link.start.column], link.start.y), (x, y)], colour)
    if not link.end.is_lane:
        tip = [(x, y), (x - 0.22, y + 0.11), (x - 0.22, y - 0.11)]
        axes.add_patch(Polygon(tip, facecolor=colour, edgecolor="none", zorder=2))


def _draw_curve(axes: Axes, ends: list[Point], colour: str) -> None:
    (x0, y0), (x1, y1) = ends
    bend = (x1 - x0) * 0.55
    path = Path(
        [(x0, y0), (x0 + bend, y0), (x1 - bend, y1), (x1, y1)],
        [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
    )
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=1.3, zorder=1))


def _draw_node(axes: Axes, frame: _Frame, item: Item) -> None:
    centre = (frame.rights[item.column] - NODE_RADIUS, item.y)
    x = frame.lefts[item.column]
    for y, (primitive, _) in zip(item.rows(), item.primitives, strict=True):
        ends = [(x + frame.box_width, y), (centre[0] - NODE_RADIUS, item.y)]
        _draw_curve(axes, ends, EDGE)
        _draw_box(axes, x, y, frame.box_width, label(primitive), _family_colour(primitive), INK)
    axes.add_patch(Circle(centre, NODE_RADIUS, facecolor="white", edgecolor=INK, lw=1.4, zorder=3))
    axes.text(*centre, item.name, ha="center", va="center", fontsize=9, color=INK, zorder=4)


def _draw_box(
    axes: Axes, left: float, y: float, width: float, text: str, face: str, ink: str
) -> None:
    shape = FancyBboxPatch(
        (left + 0.12, y - BOX_HEIGHT / 2 + 0.12),
        width - 0.24,
        BOX_HEIGHT - 0.24,
        boxstyle="round,pad=0.12,rounding_size=0.2",
        facecolor=face,
        edgecolor="none",
        zorder=3,
    )
    axes.add_patch(shape)
    axes.text(left + width / 2, y, text, ha="center", va="center", fontsize=9, color=ink, zorder=4)


def _family_colour(primitive: str) -> str:
    for family, colour in FAMILIES.items():
        if primitive.startswith(family):
            return colour
    return OTHER_FAMILY
