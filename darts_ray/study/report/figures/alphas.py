"""One search's alphas over its epochs, as a panel per edge."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from darts_ray.space import Genotype
from darts_ray.study.report.cell_drawing import label
from darts_ray.study.report.figures.style import STYLE, render, state_name


def alpha_history(alphas: pd.DataFrame, genotype: Genotype, cell: str) -> bytes:
    """Draw the softmax of every edge's alphas over the epochs (PNG).

    A panel per edge: rows are nodes, columns predecessors; inside, a row per primitive and a
    column per epoch. Blue is above the uniform weight, red below. Framed edges are those that
    the genotype keeps; a mark stands at the primitive that it chose.

    Args:
        alphas: rows of alphas.parquet of one trial.
        genotype: what the trial derived.
        cell: `normal`, `reduce` or `recurrent`.
    """
    rows = alphas[alphas["cell"] == cell]
    primitives = list(dict.fromkeys(rows["primitive"]))
    epochs = sorted(set(rows["epoch"]))
    weights = (  # (edges, epochs, primitives)
        rows.sort_values(["edge", "epoch"], kind="stable")["weight"]
        .to_numpy(dtype=np.float64)
        .reshape(-1, len(epochs), len(primitives))
    )
    nodes = genotype.cells[cell]
    inputs = genotype.num_inputs(cell)
    widest = inputs + len(nodes) - 1
    limit = max(1e-3, float(np.abs(weights - 1 / len(primitives)).max()))
    width, height = 1.25, 0.125 * len(primitives)  # of a panel in inches
    step_x, step_y = width + 0.22, height + 0.26
    left, right, top, bottom = 0.95, 0.95, 0.24, 0.12
    size = (left + widest * step_x + right, top + len(nodes) * step_y + bottom)
    with mpl.rc_context({**STYLE, "font.size": 7}):
        figure = Figure(figsize=size)
        # why: one plot in inches for all panels; a plot per edge takes seconds to lay out
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0))
        axes.set_axis_off()
        panels = ((n, p) for n in range(len(nodes)) for p in range(inputs + n))
        for matrix, (node, predecessor) in zip(weights, panels, strict=True):
            x, y = left + predecessor * step_x, top + node * step_y
            image = axes.imshow(
                matrix.T - 1 / len(primitives),
                cmap="RdBu",
                vmin=-limit,
                vmax=limit,
                aspect="auto",
                interpolation="nearest",
                extent=(x, x + width, y + height, y),
            )
            names = state_name(genotype, predecessor), state_name(genotype, inputs + node)
            axes.text(x, y - 0.05, f"{names[0]} → {names[1]}", color=STYLE["axes.labelcolor"])
            kept = {edge.predecessor: edge.primitive for edge in nodes[node]}
            frame = {"ec": "#1f2933", "lw": 1.3} if predecessor in kept else {"ec": "#dde2e8"}
            axes.add_patch(Rectangle((x, y), width, height, fill=False, **frame))
            row = height / len(primitives)
            if predecessor in kept and kept[predecessor] in primitives:
                mark = y + (primitives.index(kept[predecessor]) + 0.5) * row
                axes.plot([x + width + 0.06], [mark], "<", color="#1f2933", ms=4, mew=0)
            if predecessor == 0:
                for index, primitive in enumerate(primitives):
                    place = (x - 0.06, y + (index + 0.5) * row)
                    axes.text(*place, label(primitive), ha="right", va="center", fontsize=6)
        ends = f"epochs {epochs[0]} to {epochs[-1]} from left to right"
        axes.text(left, size[1] - 0.05, ends, color=STYLE["axes.labelcolor"])
        axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
        bar_axes = figure.add_axes((1 - 0.75 / size[0], 0.3, 0.09 / size[0], 0.4))
        bar = figure.colorbar(image, cax=bar_axes)
        bar.set_label(f"softmax weight minus 1/{len(primitives)}")
        bar.outline.set_visible(False)
        bar_axes.grid(visible=False)
        return render(figure, "png")
