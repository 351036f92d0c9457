"""What several seeds say about a setting, and when they are too few to say it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]

CONFIDENCE = 0.95
MIN_FOR_INTERVAL = 5
"""With fewer values a bootstrap resamples so few distinct samples that its ends mean nothing."""
MIN_FOR_TEST = 6
"""Two-sided sign-flip p-values of n pairs are multiples of 2 / 2**n: 5 % needs n = 6."""
MAX_ALL_PAIRS = 5
"""With more settings than this each is compared with the first one only."""


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation (n - 1; None for one value) and bootstrap interval."""

    n: int
    mean: float
    std: float | None
    low: float | None = None
    high: float | None = None

    def text(self, show: Callable[[float], str]) -> str:
        """Return `mean ± std`, or the mean alone for one value."""
        if self.std is None:
            return show(self.mean)
        return f"{show(self.mean)} ± {show(self.std)}"


@dataclass(frozen=True)
class Comparison:
    """Two settings, paired by seed.

    Attributes:
        first: a setting.
        second: another.
        n: seeds that both have finished.
        difference: mean of first minus second.
        permutation_p: exact (or 9,999 draws) two-sided paired permutation test of the mean.
        wilcoxon_p: two-sided signed-rank test.
        adjusted_p: permutation_p after Holm's correction for the number of comparisons.
        verdict: in words; says so when there are too few seeds.
    """

    first: str
    second: str
    n: int
    difference: float
    permutation_p: float | None
    wilcoxon_p: float | None
    adjusted_p: float | None
    verdict: str


def summarise(values: Sequence[float]) -> Summary | None:
    """Return the summary of the finite values; None if there are none.

    The interval is the bias-corrected and accelerated (BCa) bootstrap of the mean (Efron 1987)
    with 9,999 resamples and a fixed seed, given from five values on.
    """
    array = np.asarray([value for value in values if math.isfinite(value)], dtype=np.float64)
    if not len(array):
        return None
    std = float(array.std(ddof=1)) if len(array) > 1 else None
    low, high = _bootstrap(array) if len(array) >= MIN_FOR_INTERVAL else (None, None)
    return Summary(len(array), float(array.mean()), std, low, high)


def compare(scores: Mapping[str, Mapping[int, float]]) -> list[Comparison]:
    """Compare settings on the seeds that both have.

    Args:
        scores: setting to seed to score, settings in the order of the plan.

    Returns:
        All pairs, or from six settings on each setting with the first.
    """
    settings = [setting for setting in scores if scores[setting]]
    if len(settings) <= MAX_ALL_PAIRS:
        pairs = list(combinations(settings, 2))
    else:
        pairs = [(settings[0], other) for other in settings[1:]]
    found = [_compare(first, second, scores[first], scores[second]) for first, second in pairs]
    return _holm(found)


def _compare(
    first: str, second: str, ours: Mapping[int, float], theirs: Mapping[int, float]
) -> Comparison:
    seeds = [seed for seed in ours if seed in theirs]
    differences = np.asarray([ours[seed] - theirs[seed] for seed in seeds], dtype=np.float64)
    n = len(seeds)
    mean = float(differences.mean()) if n else math.nan
    if n < MIN_FOR_TEST:
        verdict = f"too few seeds for a test ({n} of the {MIN_FOR_TEST} it needs at least)"
        return Comparison(first, second, n, mean, None, None, None, verdict)
    if not differences.any():
        return Comparison(first, second, n, 0.0, 1.0, 1.0, None, "")
    permutation = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", rng=np.random.default_rng(0)
    )
    wilcoxon = stats.wilcoxon(differences)
    p, signed_rank = float(permutation.pvalue), float(wilcoxon.pvalue)
    return Comparison(first, second, n, mean, p, signed_rank, None, "")


def _holm(comparisons: list[Comparison]) -> list[Comparison]:
    """Fill in Holm's step-down adjusted p-values (Holm 1979) and the verdicts."""
    tested = [found for found in comparisons if found.permutation_p is not None]
    adjusted: dict[int, float] = {}
    highest = 0.0
    for rank, found in enumerate(sorted(tested, key=lambda item: item.permutation_p or 0.0)):
        highest = max(highest, min(1.0, (len(tested) - rank) * (found.permutation_p or 0.0)))
        adjusted[id(found)] = highest
    return [_with_verdict(found, adjusted.get(id(found))) for found in comparisons]


def _with_verdict(found: Comparison, p: float | None) -> Comparison:
    if p is None:
        return found
    verdict = "differ at the 5 % level" if p < 0.05 else "no difference shown"
    return replace(found, adjusted_p=p, verdict=verdict)


def _bootstrap(values: Values) -> tuple[float | None, float | None]:
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    with warnings.catch_warnings():
        # why: BCa warns and answers NaN on nearly degenerate samples; handled below
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=CONFIDENCE,
            method="BCa",
            rng=np.random.default_rng(0),
        ).confidence_interval
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return None, None
    return float(interval.low), float(interval.high)
