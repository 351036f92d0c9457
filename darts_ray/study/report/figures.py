"""Curves and heatmaps of a study, drawn without pyplot's global state."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from darts_ray.space import Genotype
from darts_ray.study.files.measure import Measure
from darts_ray.study.report.cell_drawing import label

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


def truth_curves(results: pd.DataFrame, lines: Mapping[str, tuple[float, float]]) -> bytes:
    """Draw the true accuracy of every epoch's cell, with the optimum and the random mean (SVG).

    Args:
        results: rows of results.parquet of the stage `benchmark`.
        lines: optimum and mean of a random cell in percent, by column of `results`.
    """
    panels: list[tuple[str, str, Callable[[Any], Any]]] = [
        (column, column.replace("true_accuracy_", "true accuracy (%), "), lambda v: 100 * v)
        for column in lines
    ]
    return _curves(results, panels, by="setting", lines=lines)


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
            names = _state_name(genotype, predecessor), _state_name(genotype, inputs + node)
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
        return _render(figure, "png")


def _state_name(genotype: Genotype, state: int) -> str:
    inputs = {
        "darts": ("$c_{k-2}$", "$c_{k-1}$"),
        "nasbench201": ("$c_{k-1}$",),
        "language_model": ("0",),
    }[genotype.skeleton]
    if state < len(inputs):
        return inputs[state]
    return str(state if genotype.skeleton == "language_model" else state - len(inputs))


def _curves(
    results: pd.DataFrame,
    panels: Sequence[tuple[str, str, Callable[[Any], Any]]],
    by: str,
    lines: Mapping[str, tuple[float, float]] | None = None,
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
            for level, name in zip(
                (lines or {}).get(key, ()), ("optimum", "random"), strict=False
            ):
                axes.axhline(level, color="#52606d", lw=1, ls="--" if name == "optimum" else ":")
                axes.text(1, level, name, transform=axes.get_yaxis_transform(), ha="right")
        handles = [
            mpl.lines.Line2D([], [], color=colour, lw=2, label=name)
            for name, colour in zip(names[:MAX_LEGEND], colours, strict=False)
        ]
        if len(names) > MAX_LEGEND:
            more = f"and {len(names) - MAX_LEGEND} more"
            handles.append(mpl.lines.Line2D([], [], lw=0, label=more))
        if len(names) > 1:
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


@dataclass(frozen=True)
class FigureData:
    """The numbers behind a figure: a file's name, its CSV text, and the number of rows."""

    name: str
    text: str
    count: int

    @property
    def uri(self) -> str:
        """A link that holds the text itself."""
        return f"data:text/csv;base64,{base64.b64encode(self.text.encode()).decode('ascii')}"


def curve_data(results: pd.DataFrame, stage: str, measure: Measure) -> FigureData | None:
    """Return what the curves of a stage draw; None where it has no rows."""
    rows = results[results["stage"] == stage] if len(results) else results
    truth = [name for name in rows.columns if name.startswith("true_accuracy_")]
    scores = [measure.validation, "train_loss", "train_accuracy", "num_skip", *truth]
    kept = [name for name in scores if name in rows and rows[name].notna().any()]
    if not kept:
        return None
    shown = rows[["trial", "setting", "seed", "epoch", *kept]]
    text = shown.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return FigureData(f"{stage}-curves.csv", text, len(shown))
