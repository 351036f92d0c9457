"""The critical-difference picture: methods on a scale of mean ranks (Demsar 2006)."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from darts_ray.study.report.figures.style import STYLE, looks, render
from darts_ray.study.report.statistics import RankTest

ROW = 0.24
"""Inches between two names."""


def draw_ranks(test: RankTest) -> bytes:
    """Draw mean ranks, best left, names below, and bars over those that do not differ (SVG)."""
    names = list(test.mean_ranks)
    ranks = [test.mean_ranks[name] for name in names]
    count = len(names)
    height = 0.75 + ROW * (count + len(test.cliques))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, height))
        axes = figure.add_axes((0.05, 0.04, 0.9, 0.92))
        axes.set_xlim(0.85, count + 0.15)
        axes.set_ylim(height / ROW, 0)
        axes.set_axis_off()
        top = 1.6
        axes.plot([1, count], [top, top], color="#3e4c59", lw=1)
        for tick in range(1, count + 1):
            axes.plot([tick, tick], [top - 0.25, top], color="#3e4c59", lw=1)
            axes.text(tick, top - 0.4, str(tick), ha="center", va="bottom")
        axes.plot([1, 1 + test.critical_difference], [0.25, 0.25], color="#3e4c59", lw=2)
        text = f"critical difference {test.critical_difference:.2f}"
        axes.text(1.05 + test.critical_difference, 0.25, text, va="center")
        for row, clique in enumerate(test.cliques):
            ends = [test.mean_ranks[clique[0]] - 0.03, test.mean_ranks[clique[-1]] + 0.03]
            level = top + 0.55 + row * 0.6
            axes.plot(ends, [level, level], color="#1f2933", lw=3, solid_capstyle="butt")
        first = top + 1.2 + 0.6 * len(test.cliques)
        for row, (name, rank) in enumerate(zip(names, ranks, strict=True)):
            level = first + row
            look = looks(count)[row]
            axes.plot([rank, rank], [top, level], color=look.colour, ls=look.dash, lw=1)
            axes.plot([rank], [top], look.mark or "o", color=look.colour, ms=4)
            is_left = rank <= (count + 1) / 2
            axes.text(
                rank + (0.04 if is_left else -0.04),
                level,
                f"{name}  {rank:.2f}",
                ha="left" if is_left else "right",
                va="center",
                # lines of other settings do not cross a name
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
        return render(figure, "svg")
