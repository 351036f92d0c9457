"""One self-contained HTML page about a study, made from the files in its folder."""

from __future__ import annotations

import base64
import datetime
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from darts_ray.config import to_yaml
from darts_ray.space import Genotype
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import NO_AXIS, Record
from darts_ray.study.files.study import REPORT_FILE, Study, load_study
from darts_ray.study.files.tables import alphas_of
from darts_ray.study.plan.settings import baseline_setting, settings_of
from darts_ray.study.plan.truth import column_of, transfers
from darts_ray.study.report.cell_drawing import draw_cell, label
from darts_ray.study.report.deployment import onnx_accuracy, speed, tested
from darts_ray.study.report.figures.alphas import alpha_history
from darts_ray.study.report.figures.curves import (
    eigenvalue_curves,
    retrain_curves,
    search_curves,
    truth_curves,
)
from darts_ray.study.report.figures.data import (
    FigureData,
    alpha_data,
    confusion_data,
    curve_data,
    figure_data,
    rank_data,
)
from darts_ray.study.report.figures.frequencies import draw_frequencies, edge_frequencies
from darts_ray.study.report.figures.ranks import draw_ranks
from darts_ray.study.report.robustness import Robustness, assess, split_stopped
from darts_ray.study.report.statistics import Summary, summarise
from darts_ray.study.report.summary import count, spread, summarise_settings
from darts_ray.study.report.trained import candidates, retrained_cells
from darts_ray.study.report.truth import kept_table, true_accuracies

MAX_HISTORIES = 6
"""Heatmaps of this many searches go into the page; alphas.parquet has them all."""

CELL_TITLES = {
    "normal": "Normal cell",
    "reduce": "Reduction cell",
    "recurrent": "Recurrent cell",
}
SHORT = {
    "max_pool_3x3": "max",
    "avg_pool_3x3": "avg",
    "skip_connect": "skip",
    "sep_conv_3x3": "sep3",
    "sep_conv_5x5": "sep5",
    "sep_conv_7x7": "sep7",
    "dil_conv_3x3": "dil3",
    "dil_conv_5x5": "dil5",
    "conv_7x1_1x7": "7x1",
}
"""Names of primitives where a whole cell has to fit into a table."""


def write_report(folder: str | Path) -> str:
    """Write report.html from the study's files; return its path or URI.

    The page needs no network and no other file. A study that is not finished gets a page about
    what there is.

    Raises:
        StudyError: the folder holds no study.
    """
    study = load_study(folder)
    study.folder.write_text(REPORT_FILE, render_report(study))
    return study.folder.child(REPORT_FILE)


def render_report(study: Study) -> str:
    """Return the page's HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("darts_ray.study.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"image": _data_uri, "number": count, "short": short_cells}
    environment.filters |= {
        "duration": duration,
        "cell_title": lambda name: CELL_TITLES.get(name, name.capitalize()),
    }
    environment.filters["setting"] = lambda text: "as configured" if text == NO_AXIS else text
    return environment.get_template("report.html.jinja").render(_context(study))


def short_cells(genotype: Genotype) -> dict[str, str]:
    """Return each cell on one line as in the paper's tables: `sep3(0) skip(1) | ...`."""
    return {
        cell: " | ".join(
            " ".join(
                f"{SHORT.get(edge.primitive, edge.primitive)}({edge.predecessor})" for edge in node
            )
            for node in nodes
        )
        for cell, nodes in genotype.cells.items()
    }


def duration(seconds: float) -> str:
    """Write a wall time: `42 s`, `3 min 20 s`, `5 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _context(study: Study) -> dict[str, Any]:
    record = study.record
    measure = Measure.of(study.config.data)
    results = study.results()
    settings = summarise_settings(record)
    robustness = _robustness(study, results, measure)
    judged = tested(study)
    test = summarise(
        [e.metrics[measure.test] for e in record.retrained_winner if measure.test in e.metrics]
    )
    return {
        "study": study,
        "config": study.config,
        "provenance": study.provenance,
        "measure": measure,
        "is_image": not study.config.data.is_text,
        "winner": record.winner,
        "winner_cells": _winner_cells(study.winner),
        "settings": settings,
        "selected": any(setting.select is not None for setting in settings),
        "robustness": robustness,
        "rank_figure": draw_ranks(robustness.ranks) if robustness.ranks else None,
        "rank_data": rank_data(robustness.ranks) if robustness.ranks else None,
        "eigenvalue_curves": _eigenvalues(results),
        **_frequencies(record),
        "candidates": candidates(record, measure),
        "retrained": record.retrained_winner,
        "others": retrained_cells(record, measure),
        "test": test,
        "transfers": [line.partition(": ")[2] for line in transfers(study.config)],
        "truth_curves": _truth_curves(results, robustness),
        "search_data": curve_data(results, "search", measure),
        "truth_data": curve_data(results, "benchmark", measure),
        "retrain_data": curve_data(results, "retrain", measure),
        "search_curves": _curves(results, "search", measure),
        "retrain_curves": _curves(results, "retrain", measure),
        "histories": _histories(study),
        "num_searches": len(record.search),
        "export": record.export,
        "tested": judged,
        "confusion_data": judged and confusion_data(judged.report.confusion, judged.names),
        "speed": speed(study),
        "onnx_accuracy": onnx_accuracy,
        "failed": record.failed,
        "stages": record.stages,
        "outdated": [
            name
            for name, stage in record.stages.items()
            if name != "report" and not stage.finished
        ],
        "num_trials": sum(stage.num_trials for stage in record.stages.values()),
        "yaml": _without_keys(to_yaml(study.config)),
        "place": _without_keys(study.folder.uri),
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "spread": spread,
        "count": count,
        "interval": _interval,
        "label": label,
    }


def _robustness(study: Study, results: pd.DataFrame, measure: Measure) -> Robustness:
    config = study.config
    space = None
    if config.search is not None:
        # why the first: an axis may be the space itself, and random cells need one
        first = settings_of(config)[0].values
        space = config.search_config(first, config.seeds[0]).search_space()
    stops_early = config.tune.scheduler == "asha"
    robustness = assess(
        study.record,
        results,
        measure,
        space,
        stops_early=stops_early,
        judges_each=config.judges_each,
        baseline=baseline_setting(config),
    )
    counted, _ = split_stopped(study.record, stops_early)
    return replace(robustness, published=true_accuracies(counted, kept_table(study)))


def _winner_cells(winner: Genotype | None) -> dict[str, bytes]:
    if winner is None:
        return {}
    return {cell: draw_cell(winner, cell) for cell in winner.cells}


def _curves(results: pd.DataFrame, stage: str, measure: Measure) -> bytes | None:
    rows = results[results["stage"] == stage] if len(results) else results
    if not len(rows):
        return None
    draw = search_curves if stage == "search" else retrain_curves
    return draw(rows, measure)


def _eigenvalues(results: pd.DataFrame) -> bytes | None:
    rows = results[results["stage"] == "search"] if len(results) else results
    return eigenvalue_curves(rows) if len(rows) else None


def _frequencies(record: Record) -> dict[str, Any]:
    """Return the heatmaps of what each setting's searches chose, and their numbers."""
    cells: dict[str, list[Genotype]] = {}
    for entry in record.search:
        cells.setdefault(entry.setting, []).append(entry.genotype)
    if not any(len(genotypes) > 1 for genotypes in cells.values()):
        return {"frequency_figure": None, "frequency_data": None}
    rows = edge_frequencies(cells)
    return {
        "frequency_figure": draw_frequencies(rows),
        "frequency_data": figure_data("edge-frequencies", rows),
    }


def _truth_curves(results: pd.DataFrame, robustness: Robustness) -> bytes | None:
    rows = results[results["stage"] == "benchmark"] if len(results) else results
    lines = {
        column_of(item.dataset): (item.optimum, item.random_mean) for item in robustness.published
    }
    return truth_curves(rows, lines) if len(rows) and lines else None


@dataclass(frozen=True)
class _History:
    """One search's heatmaps."""

    setting: str
    seed: int
    is_winner: bool
    cells: dict[str, bytes]
    data: FigureData


def _histories(study: Study) -> list[_History]:
    """Return heatmaps per search, the winner's first."""
    winner = None if study.record.winner is None else study.record.winner.trial
    histories = []
    for entry in sorted(study.record.search, key=lambda e: e.trial != winner)[:MAX_HISTORIES]:
        rows = alphas_of(study.alphas_table, entry.trial)
        if not len(rows):
            continue
        cells = {cell: alpha_history(rows, entry.genotype, cell) for cell in entry.genotype.cells}
        data = alpha_data(f"alphas-{entry.trial}", rows)
        histories.append(_History(entry.setting, entry.seed, entry.trial == winner, cells, data))
    return histories


def _interval(summary: Summary | None, show: Any) -> str:
    if summary is None or summary.low is None or summary.high is None:
        return ""
    return f"{show(summary.low)} to {show(summary.high)}"


def _without_keys(text: str) -> str:
    """Leave out what stands before the @ of a URI: pages are passed on, keys should not be."""
    return re.sub(r"://[^/@\s]*@", "://", text)


def _data_uri(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
