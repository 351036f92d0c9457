"""How reliable each setting is, over its seeds and against the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import pandas as pd

from darts_ray.benchmarks import nasbench201
from darts_ray.space import SearchSpace, spaces
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import Record, SearchEntry
from darts_ray.study.report.agreement import has_collapsed, mean_distance, random_distance
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
        published: the cells' published test accuracy in percent, where the space has a table.
    """

    setting: str
    score: Summary | None
    num_cells: int
    collapsed: Share | None
    eigenvalue: Summary | None
    improvement: float | None
    distance: float | None
    num_stopped: int
    published: Summary | None


@dataclass(frozen=True)
class Published:
    """What a published table says, for comparison: accuracies in percent.

    Attributes:
        dataset: whose test set.
        optimum: of the best cell.
        random_mean: of a uniformly random cell.
        trivial: by name, cells that nobody had to search for.
    """

    dataset: str
    optimum: float
    random_mean: float
    trivial: tuple[tuple[str, float], ...]


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
        published: of the space's table; None where it has none.
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
    published: Published | None = None


def assess(
    record: Record,
    results: pd.DataFrame,
    measure: Measure,
    space: SearchSpace | None,
    *,
    stops_early: bool = False,
    dataset: str | None = None,
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
        dataset: whose published accuracies are looked up, where the space has a table.
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
    table = None if dataset is None or not _has_table(space) else dataset
    published = {
        entry.trial: nasbench201.accuracy(entry.genotype, table) for entry in counted if table
    }
    settings = tuple(
        _setting(
            setting, by_seed, counted, stopped, eigenvalues, scores.get(baseline or ""), published
        )
        for setting, by_seed in scores.items()
    )
    return Robustness(
        measured=f"select {measure.title}" if selected else f"search validation {measure.title}",
        settings=settings,
        comparisons=comparisons,
        seeds=tuple(_needed(comparisons, scores)),
        ranks=None if stopped else rank_test(scores, more_is_better=measure.more_is_better),
        correlations=tuple(_correlations(counted, published)),
        random_distance=None if space is None else random_distance(space),
        baseline=baseline,
        notes=tuple(_notes(scores, stopped, full)),
        published=None if table is None else _published(table),
    )


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
    published: dict[str, float],
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
        published=summarise([published[e.trial] for e in entries if e.trial in published]),
    )


def _has_table(space: SearchSpace | None) -> bool:
    """Tell whether the space is that of the published table, whatever its name."""
    return space is not None and space.cells == spaces["nasbench201"].cells


def _published(dataset: str) -> Published:
    trivial = (
        ("all 3x3 convolutions", nasbench201.ALL_CONV3X3),
        ("a ResNet-like cell", nasbench201.RESNET_LIKE),
        ("all skip connections", nasbench201.ALL_SKIP),
    )
    return Published(
        dataset,
        nasbench201.optimum(dataset)[1],
        nasbench201.random_mean_and_std(dataset)[0],
        tuple((name, nasbench201.accuracy(cell, dataset)) for name, cell in trivial),
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
    entries: Sequence[SearchEntry], published: dict[str, float]
) -> Iterable[tuple[str, str, Correlation]]:
    signals: dict[str, list[float | None]] = {
        "search score": [entry.validation for entry in entries],
        "select score": [entry.select_score for entry in entries],
        "published accuracy": [published.get(entry.trial) for entry in entries],
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
