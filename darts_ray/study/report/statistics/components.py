"""Two kinds of variance kept apart: between searches, and within the retrains of one cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class VarianceComponents:
    """A one-way random-effects estimate.

    Attributes:
        num_searches: groups.
        num_retrains: values in all groups together.
        mean: mean of the groups' means, the score of a search of this method.
        between: standard deviation between searches, what the retrains' noise is not.
        within: standard deviation of retrains of the same cell; None without repeats.
        standard_error: of `mean`, over searches; None for one search.
    """

    num_searches: int
    num_retrains: int
    mean: float
    between: float | None
    within: float | None
    standard_error: float | None


def variance_components(groups: Sequence[Sequence[float]]) -> VarianceComponents | None:
    """Separate the variance between groups from that within them.

    The analysis-of-variance estimator of the one-way random-effects model
    `y_ij = mu + a_i + e_ij` (Searle, Casella and McCulloch 1992, section 3.6), which holds for
    unequal group sizes:

        MSW = SSW / (N - k),   MSB = SSB / (k - 1),   n0 = (N - sum n_i^2 / N) / (k - 1)
        var(e) = MSW,          var(a) = max(0, (MSB - MSW) / n0)

    Without any repeated retrain only the sum of both variances can be seen; it is returned as
    `between`, and `within` is None.

    Args:
        groups: the retrains' scores of each search; empty groups are left out.
    """
    groups = [list(group) for group in groups if group]
    k = len(groups)
    if not k:
        return None
    means = [math.fsum(group) / len(group) for group in groups]
    N = sum(len(group) for group in groups)  # noqa: N806 - the formula's letter
    mean = math.fsum(means) / k
    error = None
    if k > 1:
        error = math.sqrt(math.fsum((m - mean) ** 2 for m in means) / (k - 1) / k)
    squares_within = math.fsum(
        (y - m) ** 2 for group, m in zip(groups, means, strict=True) for y in group
    )
    mean_square_within = squares_within / (N - k) if N > k else None
    between = None
    if k > 1:
        grand = math.fsum(y for group in groups for y in group) / N
        squares_between = math.fsum(
            len(group) * (m - grand) ** 2 for group, m in zip(groups, means, strict=True)
        )
        n0 = (N - sum(len(group) ** 2 for group in groups) / N) / (k - 1)
        excess = squares_between / (k - 1) - (mean_square_within or 0.0)
        between = math.sqrt(max(0.0, excess / n0))
    within = None if mean_square_within is None else math.sqrt(mean_square_within)
    return VarianceComponents(k, N, mean, between, within, error)
