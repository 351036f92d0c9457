"""How many seeds a comparison needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.power import TTestPower

from darts_ray.study.report.statistics.comparison import MIN_FOR_TEST

POWER = 0.8
LEVEL = 0.05
SMALLEST_EFFECT = 0.01
"""In standard deviations; less would need more than 78,000 seeds."""


LARGE_EFFECT = 2.0
"""In standard deviations; five pairs would do, and the solver finds no root far above it."""


@dataclass(frozen=True)
class SeedsNeeded:
    """What the observed spread of paired differences says about the number of seeds.

    Attributes:
        n: seeds at hand.
        difference: mean of the paired differences.
        std: their sample standard deviation.
        power: chance that `n` seeds show a difference of the observed size, two-sided at 5 %.
        for_observed: seeds for a power of 80 % at the observed difference; None if that is next to
            nothing.
        for_half: seeds for a power of 80 % at half of it; None if that is next to nothing.
    """

    n: int
    difference: float
    std: float
    power: float
    for_observed: int | None
    for_half: int | None


def seeds_needed(differences: Sequence[float]) -> SeedsNeeded | None:
    """Return the power of a paired comparison and the seeds it needs; None for too few pairs.

    By the noncentral t distribution of the paired t test, which the permutation test of the mean
    follows closely; never fewer than the six seeds below which no exact test can reach 5 %.
    The observed difference is itself uncertain, so these are guides, not promises.

    Args:
        differences: score of one method minus that of the other, seed by seed; at least 3.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[np.isfinite(values)]
    n = len(values)
    if n < 3:
        return None
    mean, std = float(values.mean()), float(values.std(ddof=1))
    if std == 0:
        seeds = MIN_FOR_TEST if mean else None
        return SeedsNeeded(n, mean, 0.0, float(bool(mean) and n >= MIN_FOR_TEST), seeds, seeds)
    effect = abs(mean) / std
    power = float(TTestPower().power(effect, n, LEVEL)) if n >= MIN_FOR_TEST else 0.0
    return SeedsNeeded(n, mean, std, power, _seeds(effect), _seeds(effect / 2))


def _seeds(effect: float) -> int | None:
    """Return the smallest number of pairs with a power of 80 %; None for next to no effect."""
    if effect < SMALLEST_EFFECT:
        return None
    if effect > LARGE_EFFECT:
        return MIN_FOR_TEST
    pairs = float(TTestPower().solve_power(effect, power=POWER, alpha=LEVEL))
    return max(MIN_FOR_TEST, math.ceil(pairs))
