"""The page of a comparison: one self-contained HTML file."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import jinja2

from darts_ray.location import redact
from darts_ray.study.report.comparing.studies import TEST, StudyComparison
from darts_ray.study.report.comparing.tables import to_csv
from darts_ray.study.report.figures.data import rank_data
from darts_ray.study.report.figures.ranks import draw_ranks
from darts_ray.study.report.summary import spread


def render_comparison(comparison: StudyComparison) -> str:
    """Return the page's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("darts_ray.study.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("comparison.html.jinja").render(_context(comparison))


def _context(comparison: StudyComparison) -> dict[str, Any]:
    ranks = comparison.robustness.ranks
    now = datetime.datetime.now(datetime.UTC)
    return {
        "comparison": comparison,
        "robustness": comparison.robustness,
        "measure": comparison.measure,
        "studies": {label: redact(place) for label, place in comparison.studies.items()},
        "test": TEST,
        "rank_figure": None if ranks is None else _data_uri(draw_ranks(ranks)),
        "rank_data": None if ranks is None else rank_data(ranks),
        "csv": to_csv(comparison),
        "spread": spread,
        "written": now.strftime("%Y-%m-%d %H:%M UTC"),
    }


def _data_uri(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
