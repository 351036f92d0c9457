"""A study's record boiled down to a row per setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_ray.study.files.measure import Measure
from darts_ray.study.report.statistics import Comparison, Summary, compare, summarise

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class SettingSummary:
    """One setting over its seeds; a summary is None where nothing was measured.

    Attributes:
        setting: its text.
        entries: one record per finished search, in the order of the seeds.
        num_planned: seeds that were to run.
        validation: the search's own score after its last epoch.
        select: score of the derived cell after a short retrain.
        num_skip: skip connections in the derived normal cell.
        num_parameters: of the derived network.
    """

    setting: str
    entries: tuple[Entry, ...]
    num_planned: int
    validation: Summary | None
    select: Summary | None
    num_skip: Summary | None
    num_parameters: Summary | None


def summarise_settings(record: Mapping[str, Any], measure: Measure) -> list[SettingSummary]:
    """Return a summary per setting, in the order of the plan."""
    groups: dict[str, list[Entry]] = {}
    planned: dict[str, int] = {}
    searches = [*record.get("search", ()), *_failed(record, "search")]
    for entry in sorted(searches, key=lambda item: str(item["trial"])):
        setting = entry["setting"]
        planned[setting] = planned.get(setting, 0) + 1
        groups.setdefault(setting, [])
        if "genotype" in entry:
            groups[setting].append(entry)
    return [
        SettingSummary(
            setting,
            tuple(entries),
            planned[setting],
            _column(entries, measure.validation),
            _column(entries, "select_score"),
            _column(entries, "num_skip"),
            _column(entries, "num_parameters"),
        )
        for setting, entries in groups.items()
    ]


def compare_settings(
    summaries: Sequence[SettingSummary], measure: Measure
) -> tuple[str, list[Comparison]]:
    """Compare settings pairwise on the select score, or without one on the search's score.

    Returns:
        What was compared, in words, and the comparisons.
    """
    selected = any(summary.select is not None for summary in summaries)
    key = "select_score" if selected else measure.validation
    what = f"select {measure.name}" if selected else f"search validation {measure.name}"
    scores = {
        summary.setting: {
            int(entry["seed"]): float(entry[key])
            for entry in summary.entries
            if entry.get(key) is not None
        }
        for summary in summaries
    }
    return what, compare(scores)


def result_rows(record: Mapping[str, Any], measure: Measure) -> tuple[dict[str, str], ...]:
    """Return the final table for a terminal: column title to text, one row per setting."""
    rows = []
    for summary in summarise_settings(record, measure):
        row = {
            "setting": summary.setting,
            "seeds": f"{len(summary.entries)} of {summary.num_planned}",
            f"search {measure.title}": spread(summary.validation, measure.show),
            f"select {measure.title}": spread(summary.select, measure.show),
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


def _failed(record: Mapping[str, Any], stage: str) -> list[Entry]:
    return [entry for entry in record.get("failed", ()) if entry["stage"] == stage]


def _column(entries: Sequence[Entry], key: str) -> Summary | None:
    return summarise([float(entry[key]) for entry in entries if entry.get(key) is not None])
