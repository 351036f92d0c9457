"""One sample described: where it lies, how wide it is, how sure that is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

Values = npt.NDArray[np.float64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
NUM_RESAMPLES = 9_999
BLOCK = 500
"""Resamples of which a statistic is computed at a time."""
MAX_DRAWN = 5_000_000
"""Values that all resamples of one batch of scipy's have together."""
MIN_FOR_INTERVAL = 5
"""With fewer values a bootstrap resamples so few distinct samples that its ends mean nothing."""


@dataclass(frozen=True)
class Summary:
    """A sample in numbers.

    Attributes:
        n: finite values.
        mean: their mean.
        std: sample standard deviation (n - 1); None for one value.
        low: lower end of the BCa bootstrap interval of the mean; None for too few values.
        high: its upper end.
        median: the middle value.
        interquartile_mean: the mean of the middle half (Agarwal et al. 2021); a quarter of the
            values, rounded down, is left out at each end.
        smallest: the least value.
        largest: the greatest value.
    """

    n: int
    mean: float
    std: float | None
    low: float | None
    high: float | None
    median: float
    interquartile_mean: float
    smallest: float
    largest: float

    def text(self, show: Callable[[float], str]) -> str:
        """Return `mean ± std`, or the mean alone for one value."""
        if self.std is None:
            return show(self.mean)
        return f"{show(self.mean)} ± {show(self.std)}"

    def worst(self, more_is_better: bool) -> float:
        """Return the worst value."""
        return self.smallest if more_is_better else self.largest

    def best(self, more_is_better: bool) -> float:
        """Return the best value."""
        return self.largest if more_is_better else self.smallest


@dataclass(frozen=True)
class Share:
    """How many of `n` have a property, with Wilson's interval (Wilson 1927)."""

    count: int
    n: int
    low: float
    high: float

    @property
    def fraction(self) -> float:
        """The share itself, from 0 to 1."""
        return self.count / self.n


def summarise(values: Sequence[float]) -> Summary | None:
    """Return the summary of the finite values; None if there are none.

    The interval is the bias-corrected and accelerated (BCa) bootstrap of the mean (Efron 1987)
    with 9,999 resamples and a fixed seed, given from five values on.
    """
    array = np.asarray([value for value in values if math.isfinite(value)], dtype=np.float64)
    if not len(array):
        return None
    if len(array) == 1:  # each of thousands of retrained cells is one value
        value = float(array[0])
        return Summary(1, value, None, None, None, value, value, value, value)
    interval = mean_interval(array) if len(array) >= MIN_FOR_INTERVAL else None
    low, high = interval or (None, None)
    return Summary(
        n=len(array),
        mean=float(array.mean()),
        std=float(array.std(ddof=1)) if len(array) > 1 else None,
        low=low,
        high=high,
        median=float(np.median(array)),
        interquartile_mean=float(stats.trim_mean(array, 0.25)),
        smallest=float(array.min()),
        largest=float(array.max()),
    )


def share(flags: Sequence[bool]) -> Share | None:
    """Return the share of true flags; None if there are none at all."""
    n, count = len(flags), sum(flags)
    if not n:
        return None
    low, high = proportion_confint(count, n, alpha=1 - CONFIDENCE, method="wilson")
    return Share(count, n, float(low), float(high))


def mean_interval(values: Values) -> Interval | None:
    """Return the BCa interval of the mean; None where the sample is too degenerate for it."""
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    with warnings.catch_warnings():
        # why: BCa warns and answers NaN on nearly degenerate samples; handled below
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=NUM_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="BCa",
            batch=batch_for(len(values)),
            rng=np.random.default_rng(0),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def resample(statistic: Callable[..., Values], *sizes: int) -> Values:
    """Return a statistic of every bootstrap resample.

    Args:
        statistic: of counts (resamples, n), one argument per sample: how often each of its n
            values occurs in each resample. Called block by block, so that thousands of values
            take little memory.
        sizes: values in each sample; samples are resampled on their own.
    """
    drawn = [_drawn_counts(n, seed) for seed, n in enumerate(sizes)]
    blocks = [slice(i, i + BLOCK) for i in range(0, NUM_RESAMPLES, BLOCK)]
    return np.concatenate(
        [statistic(*(counts[block].astype(np.float64) for counts in drawn)) for block in blocks]
    )


@lru_cache(maxsize=4)
def _drawn_counts(n: int, seed: int) -> npt.NDArray[np.int16]:
    """Draw them once for all pairs of settings; small integers, as there may be thousands."""
    generator = np.random.default_rng(seed)
    shares = np.full(n, 1 / n)
    blocks = [min(BLOCK, NUM_RESAMPLES - i) for i in range(0, NUM_RESAMPLES, BLOCK)]
    return np.concatenate(
        [generator.multinomial(n, shares, size=size).astype(np.int16) for size in blocks]
    )


def batch_for(n: int) -> int:
    """Return how many resamples of n values scipy may hold at a time."""
    return max(1, min(NUM_RESAMPLES + 1, MAX_DRAWN // n))


def percentile_interval(resampled: Values) -> Interval | None:
    """Return the percentile interval of a statistic's resampled values; NaN are left out."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(finite, [tail, 1 - tail])
    return float(low), float(high)
