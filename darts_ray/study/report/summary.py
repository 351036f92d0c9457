"""A study's record boiled down to a row per setting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from darts_ray.study.files.entries import scores_of_searches
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import Record, SearchEntry
from darts_ray.study.report.statistics import Summary, summarise


@dataclass(frozen=True)
class SettingSummary:
    """One setting over its seeds; a summary is None where nothing was measured.

    Attributes:
        setting: its text.
        entries: its finished searches, in the order of the seeds.
        num_planned: seeds that were to run.
        validation: the search's own score after its last epoch.
        select: score of the derived cell after a short retrain.
        num_skip: skip connections in the derived normal cell.
        num_parameters: of the derived network.
    """

    setting: str
    entries: tuple[SearchEntry, ...]
    num_planned: int
    validation: Summary | None
    select: Summary | None
    num_skip: Summary | None
    num_parameters: Summary | None


def summarise_settings(record: Record) -> list[SettingSummary]:
    """Return a summary per setting, in the order of the plan."""
    lost = [failure for failure in record.failed if failure.stage == "search"]
    begun = [entry.setting for entry in record.search] + [failure.setting for failure in lost]
    order = (*record.settings, *begun)
    summaries = []
    for setting in dict.fromkeys(order):
        entries = sorted(
            (entry for entry in record.search if entry.setting == setting),
            key=lambda entry: entry.seed,
        )
        failed = sum(failure.setting == setting for failure in lost)
        if entries or failed:
            summaries.append(
                SettingSummary(
                    setting,
                    tuple(entries),
                    len(entries) + failed,
                    _column(entry.validation for entry in entries),
                    _column(entry.select_score for entry in entries),
                    _column(entry.num_skip for entry in entries),
                    _column(entry.num_parameters for entry in entries),
                )
            )
    return summaries


def result_rows(
    record: Record, measure: Measure, *, judges_each: bool = False
) -> tuple[dict[str, str], ...]:
    """Return the final table for a terminal: column title to text, one row per setting.

    Args:
        record: of the study.
        measure: what it is judged by.
        judges_each: whether every search's own cell is retrained; the table then has the test
            score over searches.
    """
    retrained = record.retrain if judges_each else ()
    tested = scores_of_searches(record.search, retrained, measure.test)
    rows = []
    for summary in summarise_settings(record):
        row = {
            "setting": summary.setting,
            "seeds": f"{len(summary.entries)} of {summary.num_planned}",
            f"search {measure.title}": spread(summary.validation, measure.show),
            f"select {measure.title}": spread(summary.select, measure.show),
            f"test {measure.title}": spread(
                _column(fmean(tested[e.trial]) for e in summary.entries if e.trial in tested),
                measure.show,
            ),
            "skip connections": spread(summary.num_skip, "{:.1f}".format),
            "parameters": spread(summary.num_parameters, count),
        }
        rows.append(row)
    empty = {title for title in (rows[0] if rows else ()) if all(r[title] == "-" for r in rows)}
    return tuple({k: text for k, text in row.items() if k not in empty} for row in rows)


def spread(summary: Summary | None, show: Any) -> str:
    """Return `mean ± std`, or a dash for nothing."""
    return "-" if summary is None else summary.text(show)


def count(number: float) -> str:
    """Write a number of parameters: 3,349,342 is `3.35M`."""
    if number >= 999_500:
        return f"{number / 1e6:.2f}M"
    return f"{number / 1e3:.1f}k" if number >= 1000 else f"{number:.0f}"


def _column(values: Iterable[float | None]) -> Summary | None:
    return summarise([float(value) for value in values if value is not None])
