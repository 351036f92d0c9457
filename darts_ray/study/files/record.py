"""What genotypes.json says: every derived cell with its provenance and scores, and the winner."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_ray.errors import TrialsFailedError
from darts_ray.space import ConvGenotype, Genotype
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.tables import scalars
from darts_ray.tune import TrialOutcome

Entry = dict[str, Any]
NO_AXIS = "-"
"""The setting of a study without axes."""


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
    outcomes: Iterable[TrialOutcome], measure: Measure, num_parameters: Callable[[Genotype], int]
) -> list[Entry]:
    """Return one entry per search that ended with a genotype, ordered by trial.

    Args:
        outcomes: of the search stage.
        measure: what the study is judged by.
        num_parameters: size of the network that a genotype stands for.
    """
    entries: list[Entry] = []
    sizes: dict[str, int] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.name):
        if outcome.status != "done":
            continue
        last = outcome.history[-1]
        genotype = Genotype.from_json(last["genotype"])
        key = genotype.to_json()
        if key not in sizes:
            sizes[key] = num_parameters(genotype)
        entries.append(
            {
                "trial": outcome.name,
                "setting": outcome.setting,
                "seed": outcome.seed,
                "genotype": genotype.to_dict(),
                measure.validation: last.get(measure.validation),
                "num_skip": _num_skip(genotype),
                "num_parameters": sizes[key],
                "epochs": int(last["epoch"]),
                "select_score": None,
                "select_scores": [],
            }
        )
    return entries


def candidates(entries: Sequence[Mapping[str, Any]]) -> list[Candidate]:
    """Return the distinct genotypes in the order of the searches that first derived them."""
    found: dict[str, Candidate] = {}
    for entry in entries:
        genotype = Genotype.from_dict(entry["genotype"])
        name = cell_name(genotype)
        found.setdefault(name, Candidate(name, genotype, entry["setting"]))
    return list(found.values())


def cell_name(genotype: Genotype) -> str:
    """Return a name that follows from the genotype alone, such as `cell-1f3a90c2`."""
    return f"cell-{hashlib.sha256(genotype.to_json().encode()).hexdigest()[:8]}"


def with_select_scores(
    entries: Sequence[Mapping[str, Any]], outcomes: Iterable[TrialOutcome], measure: Measure
) -> list[Entry]:
    """Return the entries with the scores of their genotypes' short retrains.

    Args:
        entries: of the searches.
        outcomes: of the select stage; the trial's name begins with its candidate's.
        measure: what the study is judged by.
    """
    scores: dict[str, list[float]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: (outcome.seed, outcome.name)):
        score = outcome.history[-1].get(measure.validation) if outcome.history else None
        if outcome.status == "done" and score is not None:
            scores.setdefault(outcome.name.partition("_")[0], []).append(score)
    updated = []
    for entry in entries:
        found = scores.get(cell_name(Genotype.from_dict(entry["genotype"])), [])
        mean = statistics.fmean(found) if found else None
        updated.append({**entry, "select_scores": found, "select_score": mean})
    return updated


def choose_winner(
    entries: Sequence[Mapping[str, Any]], measure: Measure, *, selected: bool
) -> Entry:
    """Choose by mean select score, or without a select stage by the search's own score.

    Ties go to the better search score, then to the first trial by name. The test set has no part
    in it: no entry holds a test score.

    Raises:
        TrialsFailedError: no search (or no candidate, if selected) has finished with a score.
    """
    key = "select_score" if selected else measure.validation
    scored = [entry for entry in entries if entry.get(key) is not None]
    if not scored:
        raise TrialsFailedError(
            f"No winner: none of the {'candidates' if selected else 'searches'} finished with a"
            " score. The errors of the trials are in genotypes.json; `darts-ray resume` tries"
            " them again."
        )
    ordered = sorted(
        scored,
        key=lambda entry: (
            -measure.merit(entry[key]),
            -measure.merit(entry.get(measure.validation)),
            entry["trial"],
        ),
    )
    best = ordered[0]
    others = f" of {len(scored)} searches" if len(scored) > 1 else ""
    what = (
        f"select {measure.name} on held-out training data"
        if selected
        else f"validation {measure.name} of the search"
    )
    unit = f" {measure.unit}" if measure.unit else ""
    where = f"seed {best['seed']}"
    if best["setting"] != NO_AXIS:
        where = f"{best['setting']}, {where}"
    return {
        "trial": best["trial"],
        "setting": best["setting"],
        "seed": best["seed"],
        "genotype": best["genotype"],
        "reason": f"{best['trial']} ({where}) has the best {what}{others}:"
        f" {measure.show(best[key])}{unit}.",
    }


def given_winner(genotype: Genotype) -> Entry:
    """Return the winner of a study that was told which cell to retrain."""
    return {
        "trial": None,
        "setting": "given cell",
        "seed": None,
        "genotype": genotype.to_dict(),
        "reason": "The configuration names this cell (retrain.genotype); nothing was selected.",
    }


def retrain_entries(outcomes: Iterable[TrialOutcome]) -> list[Entry]:
    """Return one entry per finished retraining: the scalars of its last report.

    The checkpoint's place is given relative to the study folder, which may move.
    """
    return [
        {
            "trial": outcome.name,
            "seed": outcome.seed,
            "checkpoint": _place(outcome),
            **{
                name: value
                for report in outcome.history
                for name, value in scalars(report).items()
                if name != "seed"
            },
        }
        for outcome in outcomes
        if outcome.status == "done"
    ]


def _place(outcome: TrialOutcome) -> str | None:
    if outcome.checkpoint is None:
        return None
    path = outcome.checkpoint.partition("?")[0]  # a URI may end with options
    return f"retrain/{outcome.name}/{path.rpartition('/')[2]}"


def choose_exported(
    entries: Sequence[Mapping[str, Any]], measure: Measure
) -> tuple[Mapping[str, Any], str]:
    """Choose the retraining to export without looking at the test set.

    Returns:
        The entry and the reason: the best score on held-out data if there is any (text), else
        the first seed that finished.

    Raises:
        TrialsFailedError: no retraining has finished.
    """
    if not entries:
        raise TrialsFailedError(
            "Nothing to export: no retraining has finished. `darts-ray resume` tries again."
        )
    if all(entry.get(measure.validation) is not None for entry in entries):
        best = max(entries, key=lambda entry: measure.merit(entry[measure.validation]))
        return best, f"best validation {measure.name}, {measure.show(best[measure.validation])}"
    if len(entries) == 1:
        return entries[0], "the only one"
    return entries[0], "the first, as nothing is held out to choose by and the test set may not"


def failures(stage: str, outcomes: Iterable[TrialOutcome]) -> list[Entry]:
    """Return one entry per failed trial."""
    return [
        {
            "stage": stage,
            "trial": outcome.name,
            "setting": outcome.setting,
            "seed": outcome.seed,
            "error": outcome.error or "unknown",
        }
        for outcome in outcomes
        if outcome.status == "failed"
    ]


def _num_skip(genotype: Genotype) -> int | None:
    if not isinstance(genotype, ConvGenotype):
        return None
    return sum(edge.primitive == "skip_connect" for edge in genotype.normal)
