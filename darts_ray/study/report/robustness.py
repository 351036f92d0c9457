"""How reliable each setting is, over its seeds and against the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from darts_ray.space import Genotype, SearchSpace
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import Record, SearchEntry
from darts_ray.study.report.statistics import (
    Comparison,
    Correlation,
    RankTest,
    SeedsNeeded,
    Share,
    Summary,
    compare,
    rank_correlation,
    rank_test,
    relative_improvement,
    seeds_needed,
    share,
    summarise,
)

NUM_RANDOM_CELLS = 60
"""Cells that are drawn to say how alike random ones are; their 1,770 pairs are compared."""


@dataclass(frozen=True)
class SettingRobustness:
    """One setting over its searches with the full budget.

    Attributes:
        setting: its text.
        score: of the derived cells, or of the supernets without a select stage.
        num_cells: distinct cells.
        collapsed: searches whose cell has collapsed, see `has_collapsed`; None without searches.
        eigenvalue: dominant eigenvalue after the last epoch; None where it was not measured.
        improvement: percent by which the mean exceeds the baseline's; None without a baseline.
        distance: mean share of edges on which two searches' cells differ; None for one search.
        num_stopped: searches that a scheduler has stopped early; they count nowhere else here.
    """

    setting: str
    score: Summary | None
    num_cells: int
    collapsed: Share | None
    eigenvalue: Summary | None
    improvement: float | None
    distance: float | None
    num_stopped: int


@dataclass(frozen=True)
class Robustness:
    """What a study says about its settings.

    Attributes:
        measured: what is compared, in words.
        settings: one row per setting.
        comparisons: all pairs, paired by seed.
        seeds: per pair its two settings and the seeds that showing the difference needs.
        ranks: over seeds, from three settings and six seeds on.
        correlations: pairs of signals with their rank correlation over all searches.
        random_distance: mean distance of two random cells of the space.
        baseline: the setting that the others are related to.
        notes: what the reader has to know before believing a verdict.
    """

    measured: str
    settings: tuple[SettingRobustness, ...]
    comparisons: tuple[Comparison, ...]
    seeds: tuple[tuple[str, str, SeedsNeeded], ...]
    ranks: RankTest | None
    correlations: tuple[tuple[str, str, Correlation], ...]
    random_distance: float | None
    baseline: str | None
    notes: tuple[str, ...]


def assess(
    record: Record,
    results: pd.DataFrame,
    measure: Measure,
    space: SearchSpace | None,
    *,
    stops_early: bool = False,
) -> Robustness:
    """Return the statistics over seeds of a study's searches.

    Searches that a scheduler has stopped early are left out: their budget is another one, so
    their scores belong to another population.

    Args:
        record: of the study.
        results: rows of results.parquet.
        measure: what the study is judged by.
        space: of the searches, for random cells; None without searches.
        stops_early: whether the study's scheduler may have stopped searches.
    """
    full = max((entry.epochs for entry in record.search), default=0)
    counted = [entry for entry in record.search if not stops_early or entry.epochs == full]
    stopped = [entry for entry in record.search if entry not in counted]
    selected = any(entry.select_score is not None for entry in counted)
    scores = {
        setting: _by_seed(counted, setting, selected=selected)
        for setting in dict.fromkeys(entry.setting for entry in record.search)
    }
    baseline = next((setting for setting in scores if _is_random(setting)), None)
    comparisons = tuple(compare(scores, more_is_better=measure.more_is_better))
    if stopped:
        comparisons = tuple(
            replace(item, verdict="no verdict: searches were stopped early")
            for item in comparisons
        )
    eigenvalues = _last_eigenvalues(results)
    settings = tuple(
        _setting(setting, by_seed, counted, stopped, eigenvalues, scores.get(baseline or ""))
        for setting, by_seed in scores.items()
    )
    return Robustness(
        measured=f"select {measure.title}" if selected else f"search validation {measure.title}",
        settings=settings,
        comparisons=comparisons,
        seeds=tuple(_needed(comparisons, scores)),
        ranks=None if stopped else rank_test(scores, more_is_better=measure.more_is_better),
        correlations=tuple(_correlations(counted, measure)),
        random_distance=None if space is None else _random_distance(space),
        baseline=baseline,
        notes=tuple(_notes(scores, stopped, full)),
    )


def has_collapsed(genotype: Genotype) -> bool:
    """Tell whether a cell counts as collapsed.

    In the skeleton of NAS-Bench-201: at most one convolution, which is what costs accuracy there.
    Elsewhere: at least half of the normal cell's primitives are skip connections (Zela et al.
    2020 count skips). Recurrent cells do not collapse in this sense.
    """
    cell = next(iter(genotype.cells.values()))
    primitives = [edge.primitive for node in cell for edge in node]
    if genotype.skeleton == "language_model":
        return False
    if genotype.skeleton == "nasbench201":
        return sum("conv" in primitive for primitive in primitives) <= 1
    return 2 * primitives.count("skip_connect") >= len(primitives)


def distance(first: Genotype, second: Genotype) -> float:
    """Return the share of edges on which two cells differ, from 0 to 1.

    Edges are counted that at least one of the two has; two edges between the same states differ
    if their primitives do.
    """
    ours, theirs = _edges(first), _edges(second)
    places = ours.keys() | theirs.keys()
    return sum(ours.get(place) != theirs.get(place) for place in places) / len(places)


def mean_distance(genotypes: Sequence[Genotype]) -> float | None:
    """Return the mean distance over all pairs; None for fewer than two."""
    pairs = list(combinations(genotypes, 2))
    return float(np.mean([distance(a, b) for a, b in pairs])) if pairs else None


def _edges(genotype: Genotype) -> dict[tuple[str, int, int], frozenset[str]]:
    edges: dict[tuple[str, int, int], frozenset[str]] = {}
    for cell, nodes in genotype.cells.items():
        for number, node in enumerate(nodes):
            for edge in node:
                place = (cell, number, edge.predecessor)
                edges[place] = edges.get(place, frozenset()) | {edge.primitive}
    return edges


def _random_distance(space: SearchSpace) -> float | None:
    return mean_distance([space.sample(seed) for seed in range(NUM_RANDOM_CELLS)])


def _by_seed(entries: Iterable[SearchEntry], setting: str, *, selected: bool) -> dict[int, float]:
    scores = {
        entry.seed: entry.select_score if selected else entry.validation
        for entry in entries
        if entry.setting == setting
    }
    return {seed: score for seed, score in sorted(scores.items()) if score is not None}


def _setting(
    setting: str,
    by_seed: dict[int, float],
    counted: Sequence[SearchEntry],
    stopped: Sequence[SearchEntry],
    eigenvalues: dict[str, float],
    baseline: dict[int, float] | None,
) -> SettingRobustness:
    entries = [entry for entry in counted if entry.setting == setting]
    genotypes = [entry.genotype for entry in entries]
    improvement = None
    if baseline and baseline is not by_seed:
        improvement = relative_improvement(list(by_seed.values()), list(baseline.values()))
    return SettingRobustness(
        setting=setting,
        score=summarise(list(by_seed.values())),
        num_cells=len(set(genotypes)),
        collapsed=share([has_collapsed(genotype) for genotype in genotypes]),
        eigenvalue=summarise(
            [eigenvalues[entry.trial] for entry in entries if entry.trial in eigenvalues]
        ),
        improvement=improvement,
        distance=mean_distance(genotypes),
        num_stopped=sum(entry.setting == setting for entry in stopped),
    )


def _is_random(setting: str) -> bool:
    """Tell whether a setting is the baseline of random cells, which search nothing."""
    return "method=random" in setting.replace(" ", "").split(",")


def _last_eigenvalues(results: pd.DataFrame) -> dict[str, float]:
    if "dominant_eigenvalue" not in results.columns:
        return {}
    rows = results[(results["stage"] == "search") & results["dominant_eigenvalue"].notna()]
    last = rows.sort_values("epoch").groupby("trial")["dominant_eigenvalue"].last()
    return {str(trial): float(value) for trial, value in last.items()}


def _needed(
    comparisons: Iterable[Comparison], scores: dict[str, dict[int, float]]
) -> Iterable[tuple[str, str, SeedsNeeded]]:
    for item in comparisons:
        first, second = scores[item.first], scores[item.second]
        needed = seeds_needed([first[seed] - second[seed] for seed in first if seed in second])
        if needed is not None:
            yield item.first, item.second, needed


def _correlations(
    entries: Sequence[SearchEntry], measure: Measure
) -> Iterable[tuple[str, str, Correlation]]:
    signals: dict[str, list[float | None]] = {
        "search score": [entry.validation for entry in entries],
        "select score": [entry.select_score for entry in entries],
    }
    for (first, ours), (second, theirs) in combinations(signals.items(), 2):
        correlation = rank_correlation(ours, theirs)
        if correlation is not None:
            yield first, second, correlation


def _notes(
    scores: dict[str, dict[int, float]], stopped: Sequence[SearchEntry], full: int
) -> Iterable[str]:
    if stopped:
        yield (
            f"{len(stopped)} searches were stopped early by the scheduler; they are left out, and"
            f" no verdict is given. The full budget is {full} epochs."
        )
    sizes = {len(by_seed) for by_seed in scores.values()}
    if len(sizes) > 1:
        yield (
            "The settings have different numbers of finished seeds; pairs are compared on those"
            " that both have."
        )
