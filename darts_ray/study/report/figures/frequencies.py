"""How often the searches of a setting put each primitive on each edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from darts_ray.space import Genotype
from darts_ray.study.files.record import NO_AXIS
from darts_ray.study.report.cell_drawing import label
from darts_ray.study.report.figures.style import STYLE, render, state_name

MAX_DRAWN = 12
"""Settings in the figure; the CSV has all."""
SIDE, WIDE = 0.13, 0.21
"""Height and width of a field in inches."""
LABELS = 0.85
"""Inches for the names of primitives."""


def edge_frequencies(cells: Mapping[str, Sequence[Genotype]]) -> pd.DataFrame:
    """Return the share of searches that have a primitive on an edge.

    Args:
        cells: by setting what its searches derived; all of one search space's shape.

    Returns:
        A row per setting, cell, edge and primitive, zeros included: `setting`, `cell`, `edge`,
        `primitive`, `share`. Primitives that no search chose anywhere have no rows.
    """
    rows = []
    for setting, genotypes in cells.items():
        for cell, edges, primitives in _shapes([g for some in cells.values() for g in some]):
            counts = dict.fromkeys(((e, p) for e in edges for p in primitives), 0)
            for genotype in genotypes:
                for node, chosen in enumerate(genotype.cells.get(cell, ())):
                    for edge in chosen:
                        counts[(edge.predecessor, node), edge.primitive] += 1
            number = len(genotypes)
            rows += [
                (setting, cell, edges[edge], primitive, count / number)
                for (edge, primitive), count in counts.items()
            ]
    return pd.DataFrame(rows, columns=["setting", "cell", "edge", "primitive", "share"])


def draw_frequencies(frequencies: pd.DataFrame) -> bytes:
    """Draw a heatmap per setting and cell, a column per edge and a row per primitive (PNG)."""
    settings = list(dict.fromkeys(frequencies["setting"]))[:MAX_DRAWN]
    panels = dict(list(frequencies.groupby(["setting", "cell"], sort=False)))
    names = {
        str(cell): (list(dict.fromkeys(rows["edge"])), list(dict.fromkeys(rows["primitive"])))
        for cell, rows in frequencies.groupby("cell", sort=False)
    }
    step = 0.3 + SIDE * max(len(primitives) for _, primitives in names.values())
    most = max(frequencies["share"].max(), 0.01)  # of all panels, so that they can be compared
    widths = [LABELS + WIDE * len(edges) for edges, _ in names.values()]
    size = (sum(widths) + 1.0, 0.1 + step * len(settings) + 0.55)
    with mpl.rc_context({**STYLE, "font.size": 6.5}):
        figure = Figure(figsize=size)
        # why: one plot in inches for all panels, as laying out many takes seconds
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        left = 0.0
        for width, (cell, (edges, primitives)) in zip(widths, names.items(), strict=True):
            x, bottom = left + LABELS - 0.1, 0.0
            for number, setting in enumerate(settings):
                y = 0.1 + number * step
                axes.text(x, y + 0.1, cell if setting == NO_AXIS else f"{setting}, {cell}")
                shares = panels[setting, cell]["share"].to_numpy().reshape(len(edges), -1)
                bottom = y + 0.15 + SIDE * len(primitives)
                extent = (x, x + WIDE * len(edges), bottom, y + 0.15)
                image = axes.imshow(
                    shares.T, cmap="Blues", vmin=0, vmax=most, aspect="auto", extent=extent
                )
                frame = (x, y + 0.15), WIDE * len(edges), SIDE * len(primitives)
                axes.add_patch(Rectangle(*frame, fill=False, ec="#9aa5b1", lw=0.6))
                for row, primitive in enumerate(primitives):
                    place = x - 0.05, y + 0.15 + (row + 0.5) * SIDE
                    axes.text(*place, label(primitive), ha="right", va="center", fontsize=6)
            for column, edge in enumerate(edges):
                place = x + (column + 0.5) * WIDE, bottom + 0.04
                axes.text(*place, edge, rotation=90, ha="center", va="top")
            left += width
        axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
        bar_axes = figure.add_axes(
            (1 - 0.7 / size[0], 0.6 / size[1], 0.09 / size[0], 0.9 / size[1])
        )
        bar = figure.colorbar(image, cax=bar_axes)
        bar.set_label("share of searches")
        bar.outline.set_visible(False)
        bar_axes.grid(visible=False)
        return render(figure, "png")


def _shapes(
    genotypes: Sequence[Genotype],
) -> Iterator[tuple[str, dict[tuple[int, int], str], list[str]]]:
    """Yield each cell's name, its edges (predecessor, node) with their names, its primitives."""
    for cell in dict.fromkeys(name for genotype in genotypes for name in genotype.cells):
        having = [genotype for genotype in genotypes if cell in genotype.cells]
        widest = max(having, key=lambda genotype: len(genotype.cells[cell]))
        inputs = widest.num_inputs(cell)
        edges = {
            (source, node): f"{state_name(widest, source)} to {state_name(widest, inputs + node)}"
            for node in range(len(widest.cells[cell]))
            for source in range(inputs + node)
        }
        primitives = sorted({e.primitive for g in having for n in g.cells[cell] for e in n})
        yield cell, edges, primitives
