"""How reliable each setting is, over its seeds and against the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

import pandas as pd

from darts_ray.space import SearchSpace
from darts_ray.study.files.entries import scores_of_searches
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import Record, SearchEntry
from darts_ray.study.report.agreement import has_collapsed, mean_distance, random_distance
from darts_ray.study.report.statistics import (
    Comparison,
    Correlation,
    RankTest,
    RelativeImprovement,
    SeedsNeeded,
    Share,
    Summary,
    VarianceComponents,
    compare,
    rank_correlation,
    rank_test,
    relative_improvement,
    seeds_needed,
    share,
    summarise,
    variance_components,
)
from darts_ray.study.report.truth import Published


@dataclass(frozen=True)
class SettingRobustness:
    """One setting over its searches with the full budget.

    Attributes:
        setting: its text.
        score: of the derived cells: on the test set where every search's own cell is retrained,
            else in the select stage, else of the supernets.
        components: of the test scores, where every search's own cell is retrained.
        num_cells: distinct cells.
        collapsed: searches whose cell has collapsed, see `has_collapsed`; None without searches.
        eigenvalue: dominant eigenvalue after the last epoch; None where it was not measured.
        improvement: of the mean over the baseline's; None without a baseline.
        distance: mean share of edges on which two searches' cells differ; None for one search.
        num_stopped: searches that a scheduler has stopped early; they count nowhere else here.
    """

    setting: str
    score: Summary | None
    components: VarianceComponents | None
    num_cells: int
    collapsed: Share | None
    eigenvalue: Summary | None
    improvement: RelativeImprovement | None
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
        published: true accuracies by dataset; a study's own page adds them.
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
    published: tuple[Published, ...] = ()


def assess(
    record: Record,
    results: pd.DataFrame,
    measure: Measure,
    space: SearchSpace | None,
    *,
    stops_early: bool = False,
    judges_each: bool = False,
    tested: Mapping[str, Sequence[float]] | None = None,
    baseline: str | None = None,
) -> Robustness:
    """Return the statistics over seeds of a study's searches.

    Searches that a scheduler has stopped early are left out: their budget is another one, so
    their scores belong to another population.

    Args:
        record: of the study.
        results: rows of results.parquet.
        measure: what the study is judged by.
        space: of the searches, for random cells; None without searches.
        stops_early: of entries that do not say it, whether a scheduler may have stopped them.
        judges_each: whether every search's own cell is retrained; its test score counts then.
        tested: test scores of each search's own cell, by trial; default: those of the record.
        baseline: the setting to which the others are related.
    """
    full = max((entry.epochs for entry in record.search), default=0)
    counted, stopped = split_stopped(record, stops_early)
    if tested is None or not judges_each:
        own = record.retrain if judges_each else ()
        tested = scores_of_searches(counted, own, measure.test)
    measured, by_trial = _judged(counted, tested, measure)
    scores = _by_setting(record, counted, by_trial)
    baseline = baseline if baseline in scores else None
    comparisons = tuple(compare(scores, more_is_better=measure.more_is_better))
    if stopped:
        comparisons = tuple(
            replace(item, verdict="no verdict: searches were stopped early")
            for item in comparisons
        )
    eigenvalues = last_eigenvalues(results)
    settings = tuple(
        _setting(
            setting,
            by_seed,
            counted,
            stopped,
            eigenvalues,
            None if baseline is None else scores[baseline],
            tested,
        )
        for setting, by_seed in scores.items()
    )
    return Robustness(
        measured=measured,
        settings=settings,
        comparisons=comparisons,
        seeds=tuple(_needed(comparisons, scores)),
        ranks=None if stopped else rank_test(scores, more_is_better=measure.more_is_better),
        correlations=tuple(_correlations(counted, tested)),
        random_distance=None if space is None else random_distance(space),
        baseline=baseline,
        notes=tuple(_notes(scores, stopped, full)),
    )


def _judged(
    entries: Sequence[SearchEntry], tested: Mapping[str, Sequence[float]], measure: Measure
) -> tuple[str, dict[str, float]]:
    """Return what searches are compared by, in words, and each one's score by trial."""
    if tested:
        means = {trial: fmean(scores) for trial, scores in tested.items()}
        return f"test {measure.title} of each search's own cell, retrained", means
    selected = any(entry.select_score is not None for entry in entries)
    scores = {e.trial: e.select_score if selected else e.validation for e in entries}
    what = f"select {measure.title}" if selected else f"search validation {measure.title}"
    return what, {trial: score for trial, score in scores.items() if score is not None}


def split_stopped(
    record: Record, stops_early: bool
) -> tuple[list[SearchEntry], list[SearchEntry]]:
    """Return the searches with the full budget, and those that a scheduler has stopped.

    Args:
        record: of the study.
        stops_early: what to think of entries that do not say whether they were stopped.
    """
    full = max((entry.epochs for entry in record.search), default=0)
    may_lack = {e.trial: stops_early if e.stopped is None else e.stopped for e in record.search}
    stopped = {e.trial for e in record.search if may_lack[e.trial] and e.epochs != full}
    return (
        [e for e in record.search if e.trial not in stopped],
        [e for e in record.search if e.trial in stopped],
    )


def scores_by_setting(
    record: Record, measure: Measure, *, judges_each: bool = False
) -> dict[str, dict[int, float]]:
    """Return what settings are compared by: setting to seed to score.

    Args:
        record: of the study.
        measure: what it is judged by.
        judges_each: whether every search's own cell is retrained; its test score counts then.
    """
    retrained = record.retrain if judges_each else ()
    tested = scores_of_searches(record.search, retrained, measure.test)
    return _by_setting(record, record.search, _judged(record.search, tested, measure)[1])


def _by_setting(
    record: Record, entries: Sequence[SearchEntry], by_trial: Mapping[str, float]
) -> dict[str, dict[int, float]]:
    settings = dict.fromkeys(entry.setting for entry in record.search)
    return {setting: _by_seed(entries, setting, by_trial) for setting in settings}


def _by_seed(
    entries: Iterable[SearchEntry], setting: str, by_trial: Mapping[str, float]
) -> dict[int, float]:
    ours = sorted((e.seed, e.trial) for e in entries if e.setting == setting)
    return {seed: by_trial[trial] for seed, trial in ours if trial in by_trial}


def _setting(
    setting: str,
    by_seed: dict[int, float],
    counted: Sequence[SearchEntry],
    stopped: Sequence[SearchEntry],
    eigenvalues: dict[str, float],
    baseline: dict[int, float] | None,
    tested: Mapping[str, Sequence[float]],
) -> SettingRobustness:
    entries = [entry for entry in counted if entry.setting == setting]
    genotypes = [entry.genotype for entry in entries]
    judged = [entry for entry in entries if entry.trial in tested]
    improvement = None
    if baseline and baseline is not by_seed:
        improvement = relative_improvement(list(by_seed.values()), list(baseline.values()))
    return SettingRobustness(
        setting=setting,
        score=summarise(list(by_seed.values())),
        components=variance_components(
            [tested[entry.trial] for entry in judged], [entry.genotype for entry in judged]
        ),
        num_cells=len(set(genotypes)),
        collapsed=share([has_collapsed(genotype) for genotype in genotypes]),
        eigenvalue=summarise(
            [eigenvalues[entry.trial] for entry in entries if entry.trial in eigenvalues]
        ),
        improvement=improvement,
        distance=mean_distance(genotypes),
        num_stopped=sum(entry.setting == setting for entry in stopped),
    )


def last_eigenvalues(results: pd.DataFrame) -> dict[str, float]:
    """Return the last dominant eigenvalue that each search measured, by trial."""
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
    entries: Sequence[SearchEntry], tested: Mapping[str, Sequence[float]]
) -> Iterable[tuple[str, str, Correlation]]:
    signals: dict[str, list[float | None]] = {
        "search score": [entry.validation for entry in entries],
        "select score": [entry.select_score for entry in entries],
        "test score": [fmean(tested[e.trial]) if e.trial in tested else None for e in entries],
    }
    for dataset in dict.fromkeys(name for entry in entries for name in entry.true_accuracy):
        truth = [entry.true_accuracy.get(dataset) for entry in entries]
        signals[f"true accuracy on {dataset}"] = truth
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
