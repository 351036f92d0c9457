"""Curves of a study over epochs, drawn without pyplot's global state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from darts_ray.study.files.measure import Measure
from darts_ray.study.report.figures.style import STYLE, Look, looks, render

EIGENVALUES = ("dominant_eigenvalue", "signed_eigenvalue")
MAX_LEGEND = 12
MAX_VECTOR_LINES = 40
"""With more trials than this their thin lines are one picture inside the figure."""

Panel = tuple[str, str, Callable[[Any], Any]]
"""A column of results.parquet, its title, and what turns its values into those shown."""


def search_curves(results: pd.DataFrame, measure: Measure) -> bytes:
    """Draw every search: a thin line per seed, a thick one for the setting's mean (SVG).

    Args:
        results: rows of results.parquet of the stage `search`.
        measure: what the study is judged by.
    """
    panels: list[Panel] = [
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
    panels: list[Panel] = [("train_loss", "training loss", _same)]
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
    panels: list[Panel] = [
        (column, column.replace("true_accuracy_", "true accuracy (%), "), lambda v: 100 * v)
        for column in lines
    ]
    return _curves(results, panels, by="setting", lines=lines)


def eigenvalue_curves(results: pd.DataFrame) -> bytes | None:
    """Draw the dominant eigenvalue over the epochs, and where early stopping took the cell (SVG).

    Args:
        results: rows of results.parquet of the stage `search`.

    Returns:
        None where it was not measured.
    """
    panels: list[Panel] = [
        ("dominant_eigenvalue", "dominant eigenvalue", _same),
        ("signed_eigenvalue", "eigenvalue that the stopping rule sees", _same),
    ]
    measured = [name for name in EIGENVALUES if name in results and results[name].notna().any()]
    return _curves(results, panels, by="setting", stops="stopped_at") if measured else None


def _curves(
    results: pd.DataFrame,
    panels: Sequence[Panel],
    by: str,
    lines: Mapping[str, tuple[float, float]] | None = None,
    stops: str | None = None,
) -> bytes:
    shown = [p for p in panels if p[0] in results.columns and results[p[0]].notna().any()]
    groups = dict(list(results.groupby(by, sort=False)))
    drawn = list(zip(groups.values(), looks(len(groups)), strict=True))
    is_dense = results["trial"].nunique() > MAX_VECTOR_LINES
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.35 * max(1, len(shown)), 2.7), layout="constrained")
        row = figure.subplots(1, max(1, len(shown)), squeeze=False)[0]
        for axes, (key, title, scale) in zip(row, shown, strict=False):
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            for rows, look in drawn:
                _draw_group(axes, rows, key, scale, look, is_dense)
                if stops is not None and stops in rows.columns:
                    _draw_stops(axes, rows, key, stops, look)
            for level, name in zip(
                (lines or {}).get(key, ()), ("optimum", "random"), strict=False
            ):
                axes.axhline(level, color="#52606d", lw=1, ls="--" if name == "optimum" else ":")
                axes.text(1, level, name, transform=axes.get_yaxis_transform(), ha="right")
        handles = [
            mpl.lines.Line2D([], [], label=name, **look.line(lw=2))
            for name, (_, look) in list(zip(groups, drawn, strict=True))[:MAX_LEGEND]
        ]
        if len(groups) > MAX_LEGEND:
            more = f"and {len(groups) - MAX_LEGEND} more"
            handles.append(mpl.lines.Line2D([], [], lw=0, label=more))
        if len(groups) > 1:
            figure.legend(
                handles=handles,
                loc="outside lower left",
                ncols=_legend_columns(figure.get_figwidth(), handles),
                handlelength=3,
            )
        return render(figure, "svg")


def _legend_columns(width: float, handles: Sequence[mpl.lines.Line2D]) -> int:
    """Return how many columns of names fit side by side; a letter is 0.07 inches wide."""
    widest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(4, len(handles), int(width / (0.65 + 0.07 * widest))))


def _draw_group(
    axes: Axes,
    rows: pd.DataFrame,
    key: str,
    scale: Callable[[Any], Any],
    look: Look,
    is_dense: bool,
) -> None:
    """Draw one line per trial and, where there are several, their mean."""
    rows = rows[rows[key].notna()].sort_values(["trial", "epoch"], kind="stable")
    if not len(rows):
        return
    points = np.column_stack([rows["epoch"], scale(rows[key])]).astype(np.float64)
    trials = rows["trial"].to_numpy()
    paths = np.split(points, np.flatnonzero(trials[1:] != trials[:-1]) + 1)
    is_short = max(len(path) for path in paths) < 2
    often = max(1, rows["epoch"].nunique() // 6)
    mark: dict[str, Any] = {"marker": "o", "ms": 3} if is_short else {"markevery": often}
    if len(paths) == 1:
        axes.plot(*paths[0].T, **look.line(lw=2.0, **mark))
        return
    # why rasterised: a page of four hundred lines of vectors is slow to open
    thin = LineCollection(
        list(paths), colors=look.colour, linewidths=0.8, alpha=0.4, rasterized=is_dense
    )
    axes.add_collection(thin, autolim=True)
    if is_short:
        axes.plot(*points.T, "o", color=look.colour, ms=3, alpha=0.4, rasterized=is_dense)
    axes.autoscale_view()
    mean = rows.groupby("epoch")[key].mean()
    axes.plot(mean.index, scale(mean), **look.line(lw=2.0, **mark))


def _draw_stops(axes: Axes, rows: pd.DataFrame, key: str, column: str, look: Look) -> None:
    """Mark each search that a rule has stopped, at the epoch whose cell it took."""
    stopped = rows.groupby("trial")[column].max().dropna()
    for trial, epoch in stopped.items():
        there = rows[(rows["trial"] == trial) & (rows["epoch"] == epoch)]
        if len(there) and there[key].notna().all():
            axes.plot(epoch, there[key].iloc[0], "X", mfc=look.colour, mec="white", ms=7)


def _percent(measure: Measure) -> Callable[[Any], Any]:
    return (lambda values: 100 * values) if measure.more_is_better else _same


def _same(values: Any) -> Any:
    return values
