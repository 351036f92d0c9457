"""The distinct cells that a study trained, each with the searches that found it."""

from __future__ import annotations

from dataclasses import dataclass

from darts_ray.space import Genotype
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import NO_AXIS, Record, SearchEntry, cell_name
from darts_ray.study.report.statistics import Summary, summarise


@dataclass(frozen=True)
class Candidate:
    """One distinct cell that was trained briefly, with the searches that found it."""

    genotype: Genotype
    num_parameters: int
    score: Summary
    searches: list[str]


def candidates(record: Record, measure: Measure) -> list[Candidate]:
    """Return one row per distinct cell, best first."""
    rows: dict[Genotype, Candidate] = {}
    for entry in record.search:
        score = summarise(entry.select_scores)
        if score is None:
            continue
        row = rows.setdefault(
            entry.genotype, Candidate(entry.genotype, entry.num_parameters, score, [])
        )
        row.searches.append(_where(entry))
    return sorted(rows.values(), key=lambda row: -measure.merit(row.score.mean))


@dataclass(frozen=True)
class Retrained:
    """One distinct cell that was trained at full size, with the searches that found it."""

    searches: list[str]
    is_winner: bool
    score: Summary
    validation: Summary | None


def retrained_cells(record: Record, measure: Measure) -> list[Retrained]:
    """Return one row per retrained cell in the order of the plan; none for the winner alone."""
    trained: dict[str, list[float]] = {}
    for entry in record.retrain:
        scores = trained.setdefault(entry.cell, [])
        if measure.test in entry.metrics:
            scores.append(entry.metrics[measure.test])
    searches = record.searches_by_cell()
    winner = None if record.winner is None else cell_name(record.winner.genotype)
    rows = []
    for cell, tested in trained.items() if len(trained) > 1 else ():
        score, found, own = summarise(tested), searches.get(cell, []), cell == winner
        own_scores = [e.select_score if e.select_scores else e.validation for e in found]
        validation = summarise([value for value in own_scores if value is not None])
        if score is not None:
            rows.append(Retrained([_where(entry) for entry in found], own, score, validation))
    return rows


def _where(entry: SearchEntry) -> str:
    prefix = "" if entry.setting == NO_AXIS else f"{entry.setting}, "
    return f"{prefix}seed {entry.seed}"
