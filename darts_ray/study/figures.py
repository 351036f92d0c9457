"""Curves and heatmaps of a study, drawn without pyplot's global state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from darts_ray.space import ConvGenotype, Genotype, RecurrentGenotype
from darts_ray.study.cell_drawing import label
from darts_ray.study.measure import Measure

# Okabe and Ito's palette: distinct to colour-blind eyes and in print.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.edgecolor": "#9aa5b1",
    "axes.labelcolor": "#3e4c59",
    "axes.titlesize": 9.5,
    "axes.titlecolor": "#1f2933",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e7eb",
    "xtick.color": "#52606d",
    "ytick.color": "#52606d",
    "legend.frameon": False,
    "svg.hashsalt": "darts_ray",
}
MAX_LEGEND = 12


def search_curves(results: pd.DataFrame, measure: Measure) -> bytes:
    """Draw every search: a thin line per seed, a thick one for the setting's mean (SVG).

    Args:
        results: rows of results.parquet of the stage `search`.
        measure: what the study is judged by.
    """
    panels: list[tuple[str, str, Callable[[Any], Any]]] = [
        (measure.validation, f"validation {measure.title}", _percent(measure)),
        ("train_loss", "training loss", _same),
    ]
    if measure.more_is_better:
        panels.append(("num_skip", "skip connections, normal cell", _same))
    return _curves(results, panels, by="setting")


def retrain_curves(results: pd.DataFrame, measure: Measure) -> bytes:
    """Draw every retraining, coloured by seed (SVG).

    Args:
        results: rows of results.parquet of the stage `retrain`.
        measure: what the study is judged by.
    """
    panels: list[tuple[str, str, Callable[[Any], Any]]] = [("train_loss", "training loss", _same)]
    if measure.more_is_better:
        panels.append(("train_accuracy", "training accuracy (%)", _percent(measure)))
    panels.append((measure.validation, f"validation {measure.title}", _percent(measure)))
    named = results.assign(setting="seed " + results["seed"].astype(str))
    return _curves(named, panels, by="setting")


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
    num_epochs = rows["epoch"].nunique()
    weights = (
        rows.sort_values(["edge", "epoch"], kind="stable")["weight"]
        .to_numpy(dtype=np.float64)
        .reshape(-1, num_epochs, len(primitives))
    )
    nodes = genotype.cells()[cell]
    num_inputs = 1 if isinstance(genotype, RecurrentGenotype) else 2
    widest = num_inputs + len(nodes) - 1
    limit = max(1e-3, float(np.abs(weights - 1 / len(primitives)).max()))
    panel_height = 0.13 * len(primitives) + 0.22
    with mpl.rc_context({**STYLE, "axes.grid": False, "font.size": 7, "axes.titlesize": 7.5}):
        figure = Figure(
            figsize=(1.1 + 1.35 * widest, 0.75 + panel_height * len(nodes)), layout="constrained"
        )
        grid = figure.subplots(len(nodes), widest, squeeze=False, sharex=True, sharey=True)
        images = []
        edge = 0
        for node, edges in enumerate(nodes):
            kept = {item.predecessor: item.primitive for item in edges}
            for predecessor in range(widest):
                axes = grid[node][predecessor]
                if predecessor >= num_inputs + node:
                    axes.set_axis_off()
                    continue
                image = axes.imshow(
                    weights[edge].T - 1 / len(primitives),
                    aspect="auto",
                    cmap="RdBu",
                    vmin=-limit,
                    vmax=limit,
                    interpolation="nearest",
                    extent=(0.5, num_epochs + 0.5, len(primitives) - 0.5, -0.5),
                )
                images.append(image)
                name = _state_name(genotype, predecessor, num_inputs)
                axes.set_title(f"{name} → node {_node_name(genotype, node)}", pad=3)
                _mark_kept(axes, kept.get(predecessor), primitives, num_epochs)
                edge += 1
        grid[0][0].set_yticks(range(len(primitives)), [label(name) for name in primitives])
        for axes in grid[-1]:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
        figure.supxlabel("epoch", fontsize=7.5, color="#3e4c59")
        bar = figure.colorbar(images[0], ax=grid, shrink=0.5, aspect=30, pad=0.01)
        bar.set_label(f"softmax weight − 1/{len(primitives)}")  # noqa: RUF001
        bar.outline.set_visible(False)
        return _render(figure, "png")


def _mark_kept(
    axes: Axes, primitive: str | None, primitives: Sequence[str], num_epochs: int
) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color("#1f2933" if primitive else "#dde2e8")
        spine.set_linewidth(1.4 if primitive else 0.6)
    if primitive in primitives:
        axes.plot(
            [num_epochs + 0.5],
            [primitives.index(primitive)],
            "<",
            color="#1f2933",
            ms=4,
            clip_on=False,
        )
    axes.tick_params(length=0)


def _state_name(genotype: Genotype, state: int, num_inputs: int) -> str:
    if isinstance(genotype, ConvGenotype) and state < num_inputs:
        return ("$c_{k-2}$", "$c_{k-1}$")[state]
    return str(state - num_inputs if isinstance(genotype, ConvGenotype) else state)


def _node_name(genotype: Genotype, node: int) -> str:
    return str(node if isinstance(genotype, ConvGenotype) else node + 1)


def _curves(
    results: pd.DataFrame,
    panels: Sequence[tuple[str, str, Callable[[Any], Any]]],
    by: str,
) -> bytes:
    shown = [p for p in panels if p[0] in results.columns and results[p[0]].notna().any()]
    names = list(dict.fromkeys(results[by]))
    colours = _colours(len(names))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.35 * max(1, len(shown)), 2.7), layout="constrained")
        row = figure.subplots(1, max(1, len(shown)), squeeze=False)[0]
        for axes, (key, title, scale) in zip(row, shown, strict=False):
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            for name, colour in zip(names, colours, strict=True):
                _draw_group(axes, results[results[by] == name], key, scale, colour)
        handles = [
            mpl.lines.Line2D([], [], color=colour, lw=2, label=name)
            for name, colour in zip(names[:MAX_LEGEND], colours, strict=False)
        ]
        if len(names) > MAX_LEGEND:
            more = f"and {len(names) - MAX_LEGEND} more"
            handles.append(mpl.lines.Line2D([], [], lw=0, label=more))
        figure.legend(handles=handles, loc="outside lower left", ncols=min(4, len(handles)))
        return _render(figure, "svg")


def _draw_group(
    axes: Axes, rows: pd.DataFrame, key: str, scale: Callable[[Any], Any], colour: str
) -> None:
    """Draw one line per trial and, where there are several, their mean."""
    trials = [group.dropna(subset=[key]) for _, group in rows.groupby("trial", sort=False)]
    marker = "o" if max((len(trial) for trial in trials), default=0) < 2 else None
    alone = len(trials) == 1
    for trial in trials:
        width, alpha = (2.0, 1.0) if alone else (0.8, 0.4)
        axes.plot(
            trial["epoch"],
            scale(trial[key]),
            color=colour,
            lw=width,
            alpha=alpha,
            marker=marker,
            ms=3,
        )
    if not alone:
        mean = rows.groupby("epoch")[key].mean().dropna()
        axes.plot(mean.index, scale(mean), color=colour, lw=2.0, marker=marker, ms=3)


def _colours(number: int) -> list[str]:
    if number <= len(PALETTE):
        return list(PALETTE[:number])
    ramp = mpl.colormaps["viridis"](np.linspace(0, 0.92, number))
    return [mpl.colors.to_hex(colour) for colour in ramp]


def _percent(measure: Measure) -> Callable[[Any], Any]:
    return (lambda values: 100 * values) if measure.more_is_better else _same


def _same(values: Any) -> Any:
    return values


def _render(figure: Figure, image_format: Literal["svg", "png"]) -> bytes:
    buffer = BytesIO()
    metadata = {"Date": None} if image_format == "svg" else {}
    figure.savefig(buffer, format=image_format, dpi=140, metadata=metadata)
    return buffer.getvalue()
