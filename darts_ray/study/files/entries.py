"""From the trials' outcomes to what the record says of them, and which cell wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from darts_ray.config import TopCells
from darts_ray.errors import TrialsFailedError
from darts_ray.space import Genotype
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import (
    NO_AXIS,
    Failure,
    Record,
    RetrainEntry,
    SearchEntry,
    Winner,
    cell_name,
)
from darts_ray.study.files.tables import scalars
from darts_ray.tune import TrialOutcome


@dataclass(frozen=True)
class Candidate:
    """One distinct cell, however many searches derived it.

    Attributes:
        name: `cell-` and eight digits that follow from the genotype alone, so that its
            trainings are found again whichever searches have found it.
        genotype: the cell.
        setting: of the first search that derived it.
    """

    name: str
    genotype: Genotype
    setting: str


def search_entries(
    outcomes: Iterable[TrialOutcome],
    measure: Measure,
    num_parameters: Callable[[Genotype], int],
    before: Iterable[SearchEntry] = (),
) -> tuple[SearchEntry, ...]:
    """Return one entry per search that ended with a genotype, in the order of the plan.

    Args:
        outcomes: of the search stage.
        measure: what the study is judged by.
        num_parameters: size of the network that a genotype stands for.
        before: entries of an earlier pass; the select scores of cells that are found again stay.
    """
    entries = []
    sizes: dict[Genotype, int] = {}
    known = {entry.genotype: entry for entry in before}
    for outcome in outcomes:
        # why: a search without trained alphas has no cell when a scheduler stops it early
        if outcome.status != "done" or "genotype" not in outcome.history[-1]:
            continue
        last = outcome.history[-1]
        genotype = Genotype.from_json(last["genotype"])
        if genotype not in sizes:
            sizes[genotype] = num_parameters(genotype)
        entries.append(
            SearchEntry(
                trial=outcome.name,
                setting=outcome.setting,
                seed=outcome.seed,
                genotype=genotype,
                validation=_finite(last.get(measure.validation)),
                num_skip=_num_skip(genotype),
                num_parameters=sizes[genotype],
                epochs=int(last["epoch"]),
                select_scores=known[genotype].select_scores if genotype in known else (),
                true_accuracy=known[genotype].true_accuracy if genotype in known else {},
                stopped=not last["done"] if "done" in last else None,
            )
        )
    return tuple(entries)


def candidates(entries: Iterable[SearchEntry]) -> list[Candidate]:
    """Return the distinct genotypes in the order of the searches that first derived them."""
    distinct: dict[str, Candidate] = {}
    for entry in entries:
        name = cell_name(entry.genotype)
        distinct.setdefault(name, Candidate(name, entry.genotype, entry.setting))
    return list(distinct.values())


def with_select_scores(
    entries: Iterable[SearchEntry], outcomes: Iterable[TrialOutcome], measure: Measure
) -> tuple[SearchEntry, ...]:
    """Return the entries with the scores of their genotypes' short retrains.

    Args:
        entries: of the searches.
        outcomes: of the select stage; the trial's name begins with its candidate's.
        measure: what the study is judged by.
    """
    scores: dict[str, tuple[float, ...]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.seed, outcome.name)):
        score = _finite(outcome.history[-1].get(measure.validation)) if outcome.history else None
        if outcome.status == "done" and score is not None:
            name = outcome.name.partition("_")[0]
            scores[name] = (*scores.get(name, ()), score)
    return tuple(
        replace(entry, select_scores=scores.get(cell_name(entry.genotype), ()))
        for entry in entries
    )


def choose_winner(entries: Iterable[SearchEntry], measure: Measure, *, selected: bool) -> Winner:
    """Choose by mean select score, or without a select stage by the search's own score.

    Ties go to the better search score, then to the first in the order of the plan. The test set
    has no part in it: no entry holds a test score.

    Raises:
        TrialsFailedError: no search (or no candidate, if selected) has finished with a score.
    """

    def score_of(entry: SearchEntry) -> float | None:
        return entry.select_score if selected else entry.validation

    scored = [entry for entry in entries if score_of(entry) is not None]
    if not scored:
        raise TrialsFailedError(
            f"No winner: none of the {'candidates' if selected else 'searches'} finished with a"
            " score. The errors of the trials are in genotypes.json; `darts-ray resume` tries"
            " them again."
        )
    best = max(
        scored,
        key=lambda entry: (measure.merit(score_of(entry)), measure.merit(entry.validation)),
    )
    score = score_of(best)
    assert score is not None
    others = f" of {len(scored)} searches" if len(scored) > 1 else ""
    what = (
        f"select {measure.name} on held-out training data"
        if selected
        else f"validation {measure.name} of the search"
    )
    unit = f" {measure.unit}" if measure.unit else ""
    where = f"seed {best.seed}"
    if best.setting != NO_AXIS:
        where = f"{best.setting}, {where}"
    return Winner(
        trial=best.trial,
        setting=best.setting,
        seed=best.seed,
        genotype=best.genotype,
        reason=f"{best.trial} ({where}) has the best {what}{others}: {measure.show(score)}{unit}.",
    )


def given_winner(genotype: Genotype) -> Winner:
    """Return the winner of a study that was told which cell to retrain."""
    return Winner(
        trial=None,
        setting="given cell",
        seed=None,
        genotype=genotype,
        reason="The configuration names this cell (retrain.genotype); nothing was selected.",
    )


def cells_to_retrain(
    record: Record, which: Literal["winner", "each"] | TopCells, measure: Measure
) -> list[Candidate]:
    """Return the distinct cells that are trained at full size, the winner's first.

    The test set has no part in it.

    Args:
        record: with a winner.
        which: the winner's alone, each search's own, or the best few by the score of the winner:
            that of the select stage where there is one, else the search's.
        measure: what the study is judged by.
    """
    winner = record.winner
    assert winner is not None
    own = Candidate(cell_name(winner.genotype), winner.genotype, winner.setting)
    others = [] if which == "winner" else candidates(record.search)
    if isinstance(which, TopCells):
        selected = any(entry.select_scores for entry in record.search)
        best: dict[str, tuple[float, float]] = {}
        for entry in record.search:
            score = entry.select_score if selected else entry.validation
            merit = measure.merit(score), measure.merit(entry.validation)
            name = cell_name(entry.genotype)
            best[name] = max(merit, best.get(name, merit))
        others.sort(key=lambda cell: best[cell.name], reverse=True)
    cells = [own, *(cell for cell in others if cell.name != own.name)]
    return cells[: which.top] if isinstance(which, TopCells) else cells


def scores_of_searches(
    searches: Iterable[SearchEntry], retrained: Iterable[RetrainEntry], metric: str
) -> dict[str, tuple[float, ...]]:
    """Return what the retrainings of each search's own cell scored, by the search's trial.

    Searches that derived the same cell share its retrainings.

    Args:
        searches: finished ones.
        retrained: finished retrainings.
        metric: such as `test_accuracy`.
    """
    by_cell: dict[str, tuple[float, ...]] = {}
    for entry in retrained:
        if metric in entry.metrics:
            by_cell[entry.cell] = (*by_cell.get(entry.cell, ()), entry.metrics[metric])
    named = {entry.trial: cell_name(entry.genotype) for entry in searches}
    return {trial: by_cell[name] for trial, name in named.items() if name in by_cell}


def retrain_entries(outcomes: Iterable[TrialOutcome]) -> tuple[RetrainEntry, ...]:
    """Return one entry per finished retraining."""
    return tuple(
        RetrainEntry(
            trial=outcome.name,
            cell=_cell_of(outcome),
            seed=outcome.seed,
            checkpoint=_place(outcome),
            metrics={
                name: value
                for report in outcome.history
                for name, value in scalars(report).items()
                if name != "seed" and math.isfinite(value)
            },
        )
        for outcome in outcomes
        if outcome.status == "done"
    )


def choose_exported(entries: Sequence[RetrainEntry], measure: Measure) -> tuple[RetrainEntry, str]:
    """Choose the retraining to export without looking at the test set.

    Args:
        entries: retrainings of the winner's cell.
        measure: what the study is judged by.

    Returns:
        The entry and the reason: the best score on held-out data if there is any (text), else
        the first seed that finished.

    Raises:
        TrialsFailedError: no retraining has finished.
    """
    if not entries:
        raise TrialsFailedError(
            "Nothing to export: no retraining of the winner has finished. `darts-ray resume` tries"
            " again."
        )
    scores = [entry.metrics.get(measure.validation) for entry in entries]
    if None not in scores:
        best = max(entries, key=lambda entry: measure.merit(entry.metrics[measure.validation]))
        score = measure.show(best.metrics[measure.validation])
        return best, f"best validation {measure.name}, {score}"
    if len(entries) == 1:
        return entries[0], "the only one"
    return entries[0], "the first, as nothing is held out to choose by and the test set may not"


def failures(stage: str, outcomes: Iterable[TrialOutcome]) -> tuple[Failure, ...]:
    """Return one entry per failed trial."""
    return tuple(
        Failure(stage, outcome.name, outcome.setting, outcome.seed, outcome.error or "unknown")
        for outcome in outcomes
        if outcome.status == "failed"
    )


def _place(outcome: TrialOutcome) -> str | None:
    if outcome.checkpoint is None:
        return None
    path = outcome.checkpoint.partition("?")[0]  # a URI may end with options
    return f"retrain/{outcome.name}/{path.rpartition('/')[2]}"


def _cell_of(outcome: TrialOutcome) -> str:
    genotype = outcome.config.get("genotype")
    return cell_name(Genotype.from_dict(genotype)) if isinstance(genotype, dict) else ""


def _finite(score: float | None) -> float | None:
    return None if score is None or not math.isfinite(score) else score


def _num_skip(genotype: Genotype) -> int | None:
    return None if genotype.skeleton == "language_model" else genotype.num_skip
