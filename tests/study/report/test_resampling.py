"""Bootstrap resamples: what is computed for all of them at once is what each one gives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from darts_ray.study.report.statistics import ranks
from darts_ray.study.report.statistics.description import NUM_RESAMPLES, resample


def test_correlations_of_resamples_are_those_of_the_repeated_values() -> None:
    generator = np.random.default_rng(5)
    x = generator.integers(0, 6, 40).astype(np.float64)  # ties among them
    y = x + generator.normal(size=40)
    counts = generator.multinomial(40, np.full(40, 1 / 40), size=7).astype(np.float64)
    tau = ranks.kendall_of_resamples(x, y)(counts)
    rho = ranks.spearman_of_resamples(x, y)(counts)
    for row, weights in enumerate(counts.astype(int)):
        a, b = np.repeat(x, weights), np.repeat(y, weights)
        assert tau[row] == pytest.approx(stats.kendalltau(a, b).statistic)
        assert rho[row] == pytest.approx(stats.spearmanr(a, b).statistic)


def test_thousands_of_searches_are_resampled_in_little_memory() -> None:
    def largest(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        assert counts.nbytes < 20e6  # 500 resamples of 2,000 values
        assert (counts.sum(1) == 2000).all()
        return counts.max(1)

    assert resample(largest, 2000).shape == (NUM_RESAMPLES,)
