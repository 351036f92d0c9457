"""Methods against each other, paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from darts_ray.study.report.statistics.description import (
    MIN_FOR_INTERVAL,
    Values,
    batch_for,
    mean_interval,
    percentile_interval,
    resample,
)

MIN_FOR_TEST = 6
"""Two-sided sign-flip p-values of n pairs are multiples of 2 / 2**n: 5 % needs n = 6."""

Scores = Mapping[str, Mapping[int, float]]
"""Method or setting to seed to score."""


@dataclass(frozen=True)
class Comparison:
    """Two settings, paired by seed.

    Attributes:
        first: a setting.
        second: another.
        n: seeds that both have finished.
        difference: mean of first minus second.
        low: lower end of the BCa interval of the difference; None for too few seeds.
        high: its upper end.
        permutation_p: exact (or 9,999 draws) two-sided paired permutation test of the mean.
        wilcoxon_p: two-sided signed-rank test.
        adjusted_p: permutation_p after Holm's correction for the number of comparisons.
        cliffs_delta: how much more often a score of the first is the higher one than the lower
            one, over all pairs of scores: from -1 to 1.
        improvement: probability that a search of the first beats one of the second, ties
            counting half.
        improvement_low: lower end of its bootstrap interval; None for too few seeds.
        improvement_high: its upper end.
        verdict: in words; says so when there are too few seeds.
    """

    first: str
    second: str
    n: int
    difference: float
    low: float | None
    high: float | None
    permutation_p: float | None
    wilcoxon_p: float | None
    adjusted_p: float | None
    cliffs_delta: float | None
    improvement: float | None
    improvement_low: float | None
    improvement_high: float | None
    verdict: str


def compare(
    scores: Scores, *, more_is_better: bool = True, with_intervals: bool = True
) -> list[Comparison]:
    """Compare all pairs of settings on the seeds that both have.

    p-values are adjusted for all pairs together by Holm's step-down method (Holm 1979).

    Args:
        scores: settings in the order of the plan.
        more_is_better: whether a higher score is an improvement.
        with_intervals: whether to bootstrap intervals, which takes most of the time.
    """
    settings = [setting for setting in scores if scores[setting]]
    comparisons = [
        _compare(first, second, scores[first], scores[second], more_is_better, with_intervals)
        for first, second in combinations(settings, 2)
    ]
    return _holm(comparisons)


@dataclass(frozen=True)
class RelativeImprovement:
    """Percent by which a mean exceeds the baseline's; the interval is None for too few values."""

    percent: float
    low: float | None
    high: float | None


def relative_improvement(
    scores: Sequence[float], baseline: Sequence[float]
) -> RelativeImprovement | None:
    """Return by how many percent the mean exceeds the baseline's (Yang et al. 2020).

    `RI = 100 * (mean(scores) - mean(baseline)) / mean(baseline)`, with the percentile bootstrap
    interval of the ratio from five values on both sides on; each sample is resampled on its own,
    as the searches of two methods are independent. None without scores.
    """
    if not scores or not baseline:
        return None
    ours, theirs = np.asarray(scores, np.float64), np.asarray(baseline, np.float64)
    reference = float(theirs.mean())
    if not reference:
        return None
    percent = 100 * (float(ours.mean()) - reference) / reference
    if min(len(ours), len(theirs)) < MIN_FOR_INTERVAL:
        return RelativeImprovement(percent, None, None)

    def improvement(counts: Values, reference_counts: Values) -> Values:
        means = counts @ ours / len(ours)
        references = reference_counts @ theirs / len(theirs)
        with np.errstate(divide="ignore", invalid="ignore"):
            percents: Values = 100 * (means - references) / references
        return percents

    interval = percentile_interval(resample(improvement, len(ours), len(theirs)))
    return RelativeImprovement(percent, *(interval or (None, None)))


def cliffs_delta(first: Values, second: Values) -> float:
    """Return `P(first > second) - P(first < second)` over all pairs (Cliff 1993)."""
    return float(np.sign(first[:, None] - second[None, :]).mean())


def _compare(
    first: str,
    second: str,
    ours: Mapping[int, float],
    theirs: Mapping[int, float],
    more_is_better: bool,
    with_intervals: bool,
) -> Comparison:
    seeds = [seed for seed in ours if seed in theirs and math.isfinite(ours[seed] - theirs[seed])]
    a = np.asarray([ours[seed] for seed in seeds], dtype=np.float64)
    b = np.asarray([theirs[seed] for seed in seeds], dtype=np.float64)
    differences = a - b
    n = len(seeds)
    wanted = with_intervals and n >= MIN_FOR_INTERVAL
    low, high = (mean_interval(differences) if wanted else None) or (None, None)
    delta = cliffs_delta(a, b) if n else None
    improvement, improvement_low, improvement_high = _improvement(a, b, more_is_better, wanted)
    comparison = Comparison(
        first,
        second,
        n,
        float(differences.mean()) if n else math.nan,
        low,
        high,
        None,
        None,
        None,
        delta,
        improvement,
        improvement_low,
        improvement_high,
        f"too few seeds for a test ({n} of the {MIN_FOR_TEST} it needs at least)",
    )
    if n < MIN_FOR_TEST:
        return comparison
    if not differences.any():
        return replace(comparison, permutation_p=1.0, wilcoxon_p=1.0)
    permutation = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        batch=batch_for(n),
        rng=np.random.default_rng(0),
    )
    wilcoxon = stats.wilcoxon(differences)
    return replace(
        comparison,
        permutation_p=float(permutation.pvalue),
        wilcoxon_p=float(wilcoxon.pvalue),
    )


def _improvement(
    a: Values, b: Values, more_is_better: bool, with_interval: bool
) -> tuple[float | None, float | None, float | None]:
    """Return the probability of improvement and its percentile interval."""
    if not len(a):
        return None, None, None

    signs = np.sign(a[:, None] - b[None, :]) * (1 if more_is_better else -1)
    value = (1 + float(signs.mean())) / 2
    if not with_interval:
        return value, None, None
    # both samples are resampled on their own, as the searches of two methods are independent
    means = resample(lambda w, v: ((w @ signs) * v).sum(1) / signs.size, len(a), len(b))
    interval = percentile_interval((1 + means) / 2)
    return (value, *interval) if interval else (value, None, None)


def _holm(comparisons: list[Comparison]) -> list[Comparison]:
    tested = [item for item in comparisons if item.permutation_p is not None]
    if not tested:
        return comparisons
    adjusted = multipletests([item.permutation_p for item in tested], method="holm")[1]
    by_pair = {
        (item.first, item.second): float(p) for item, p in zip(tested, adjusted, strict=True)
    }
    return [_with_verdict(item, by_pair.get((item.first, item.second))) for item in comparisons]


def _with_verdict(item: Comparison, p: float | None) -> Comparison:
    if p is None:
        return item
    verdict = "differ at the 5 % level" if p < 0.05 else "no difference shown"
    return replace(item, adjusted_p=p, verdict=verdict)
