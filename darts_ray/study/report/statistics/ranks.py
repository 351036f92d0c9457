"""Ranks: whether a cheap signal orders cells as the true score does, and methods over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from darts_ray.study.report.statistics.comparison import MIN_FOR_TEST, Scores
from darts_ray.study.report.statistics.description import (
    MIN_FOR_INTERVAL,
    Values,
    percentile_interval,
    resample,
)

MIN_METHODS = 3


@dataclass(frozen=True)
class Correlation:
    """Rank correlations of two scores of the same cells.

    Attributes:
        n: cells that have both scores.
        kendall: tau-b.
        kendall_low: lower end of its bootstrap interval (percentiles); None for too few cells.
        kendall_high: its upper end.
        spearman: rho.
        spearman_low: as for Kendall's.
        spearman_high: as for Kendall's.
    """

    n: int
    kendall: float
    kendall_low: float | None
    kendall_high: float | None
    spearman: float
    spearman_low: float | None
    spearman_high: float | None


@dataclass(frozen=True)
class RankTest:
    """Friedman's test over seeds, and what Nemenyi's test calls a difference (Demsar 2006).

    Attributes:
        n: seeds that every method has.
        mean_ranks: method to mean rank, 1 being best; best first.
        statistic: Friedman's chi-square.
        p: its p-value.
        critical_difference: mean ranks that differ by more differ at the 5 % level.
        cliques: largest groups of methods that do not differ, best first; for the picture.
    """

    n: int
    mean_ranks: Mapping[str, float]
    statistic: float
    p: float
    critical_difference: float
    cliques: tuple[tuple[str, ...], ...]


def rank_correlation(
    first: Sequence[float | None], second: Sequence[float | None]
) -> Correlation | None:
    """Return how alike two scores order the same cells; None for fewer than three cells.

    Args:
        first: a score per cell, None where it is missing.
        second: another, in the same order.
    """
    pairs = [
        (a, b)
        for a, b in zip(first, second, strict=True)
        if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)
    ]
    x, y = np.asarray(pairs, dtype=np.float64).reshape(-1, 2).T
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    kendall = spearman = None
    if len(x) >= MIN_FOR_INTERVAL:
        kendall = percentile_interval(resample(kendall_of_resamples(x, y), len(x)))
        spearman = percentile_interval(resample(spearman_of_resamples(x, y), len(x)))
    kendall_low, kendall_high = kendall or (None, None)
    spearman_low, spearman_high = spearman or (None, None)
    return Correlation(
        n=len(x),
        kendall=float(stats.kendalltau(x, y).statistic),
        kendall_low=kendall_low,
        kendall_high=kendall_high,
        spearman=float(stats.spearmanr(x, y).statistic),
        spearman_low=spearman_low,
        spearman_high=spearman_high,
    )


def rank_test(scores: Scores, *, more_is_better: bool = True) -> RankTest | None:
    """Rank methods within each seed; None below three methods or six common seeds.

    Nemenyi's critical difference is `q sqrt(k (k + 1) / (6 n))`, where q is the studentised range
    quantile of k groups divided by sqrt(2).
    """
    methods = [method for method in scores if scores[method]]
    seeds = sorted(
        set.intersection(*(set(scores[method]) for method in methods)) if methods else ()
    )
    k, n = len(methods), len(seeds)
    if k < MIN_METHODS or n < MIN_FOR_TEST:
        return None
    table = np.asarray([[scores[method][seed] for method in methods] for seed in seeds])
    ranks = stats.rankdata(-table if more_is_better else table, axis=1)
    means = ranks.mean(axis=0)
    if np.ptp(ranks) == 0:  # all tied everywhere: nothing to test
        statistic, p = 0.0, 1.0
    else:
        result = stats.friedmanchisquare(*table.T)
        statistic, p = float(result.statistic), float(result.pvalue)
    q = float(stats.studentized_range.ppf(0.95, k, np.inf)) / math.sqrt(2)
    critical = q * math.sqrt(k * (k + 1) / (6 * n))
    order = [int(i) for i in np.argsort(means, kind="stable")]
    mean_ranks = {methods[i]: float(means[i]) for i in order}
    return RankTest(n, mean_ranks, statistic, p, critical, _cliques(mean_ranks, critical))


def _cliques(mean_ranks: Mapping[str, float], critical: float) -> tuple[tuple[str, ...], ...]:
    names, ranks = list(mean_ranks), list(mean_ranks.values())
    cliques: list[tuple[str, ...]] = []
    reach = 0
    for start, rank in enumerate(ranks):
        stop = max(i for i, other in enumerate(ranks) if other - rank <= critical) + 1
        if stop - start > 1 and stop > reach:
            cliques.append(tuple(names[start:stop]))
            reach = stop
    return tuple(cliques)


def kendall_of_resamples(x: Values, y: Values) -> Callable[[Values], Values]:
    """Return tau-b of resamples, as a function of how often each value occurs in them.

    `tau_b = sum_ij w_i w_j a_ij b_ij / sqrt(sum_ij w_i w_j |a_ij| * sum_ij w_i w_j |b_ij|)` with
    a and b the signs of the differences; copies of one value are ties. With W_g the weight of
    each distinct value, `sum_ij w_i w_j |a_ij| = n^2 - sum_g W_g^2`.
    """
    # why float32: all sums are integers below 2^24, which it holds exactly, up to 4,096 values
    dtype = np.float32 if len(x) <= 4096 else np.float64
    signs: npt.NDArray[Any] = (np.sign(x[:, None] - x) * np.sign(y[:, None] - y)).astype(dtype)
    groups_x, groups_y = _Groups(x), _Groups(y)

    def tau(counts: Values) -> Values:
        weights: npt.NDArray[Any] = counts.astype(dtype)
        concordant = ((weights @ signs) * weights).sum(1, dtype=np.float64)
        untied = [len(x) ** 2 - (g.weights(counts) ** 2).sum(1) for g in (groups_x, groups_y)]
        with np.errstate(invalid="ignore", divide="ignore"):
            values: Values = concordant / np.sqrt(untied[0] * untied[1])
        return values

    return tau


def spearman_of_resamples(x: Values, y: Values) -> Callable[[Values], Values]:
    """Return the correlation of mid-ranks of resamples, as a function of their counts."""
    groups_x, groups_y = _Groups(x), _Groups(y)

    def rho(counts: Values) -> Values:
        r, s = (g.ranks(counts) - (len(x) + 1) / 2 for g in (groups_x, groups_y))
        with np.errstate(invalid="ignore", divide="ignore"):
            values: Values = (counts * r * s).sum(1) / np.sqrt(
                (counts * r * r).sum(1) * (counts * s * s).sum(1)
            )
        return values

    return rho


class _Groups:
    """The distinct values of a sample, ascending, each with its places."""

    def __init__(self, values: Values) -> None:
        distinct, self._group = np.unique(values, return_inverse=True)
        self._order = np.argsort(self._group, kind="stable")
        self._starts = np.searchsorted(self._group[self._order], np.arange(len(distinct)))

    def weights(self, counts: Values) -> Values:
        """Return how often each distinct value occurs, (resamples, distinct values)."""
        weights: Values = np.add.reduceat(counts[:, self._order], self._starts, axis=1)
        return weights

    def ranks(self, counts: Values) -> Values:
        """Return the mid-rank of every value in each resample, (resamples, values)."""
        weights = self.weights(counts)
        ranks: Values = np.cumsum(weights, axis=1) - weights + (weights + 1) / 2
        return ranks[:, self._group]
