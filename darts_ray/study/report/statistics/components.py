"""Two kinds of variance kept apart: between searches, and within the retrains of one cell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class VarianceComponents:
    """A one-way random-effects estimate.

    Attributes:
        num_searches: groups.
        num_retrains: distinct retrains of all groups together.
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


def variance_components(
    groups: Sequence[Sequence[float]], cells: Sequence[Hashable] | None = None
) -> VarianceComponents | None:
    """Separate the variance between groups from that within them.

    The estimator of unweighted means for the one-way random-effects model
    `y_sj = mu + a_s + e_cj`, where c is the cell of search s (Searle, Casella and McCulloch 1992,
    section 3.6; for groups of one size it is the analysis of variance's):

        var(e) = SSW / sum_c (r_c - 1)
        var(a) = max(0, S^2 - v),      S^2 the sample variance of the k groups' means
        v      = var(e) / (k - 1) * (sum_s 1 / r_s - sum_c m_c^2 / r_c / k)

    with r_c retrains of cell c, which m_c searches share; v is what the retrains' noise adds to
    S^2. Without shared cells v is var(e) times the mean of 1 / r; searches that share a cell
    share its noise as well, which hides part of it.

    Without any repeated retrain only the sum of both variances can be seen; it is returned as
    `between`, and `within` is None.

    Args:
        groups: the retrains' scores of each search; empty groups are left out.
        cells: whose retrains each group are; groups of one cell are the same retrains, and count
            once within. None: all are different.
    """
    labels = list(range(len(groups))) if cells is None else list(cells)
    pairs = [(list(g), label) for g, label in zip(groups, labels, strict=True) if g]
    k = len(pairs)
    if not k:
        return None
    retrains = {label: group for group, label in pairs}
    shared = Counter(label for _, label in pairs)
    means = {label: math.fsum(group) / len(group) for label, group in retrains.items()}
    mean = math.fsum(means[label] for _, label in pairs) / k
    repeats = sum(len(group) - 1 for group in retrains.values())
    squares = math.fsum((y - means[c]) ** 2 for c, group in retrains.items() for y in group)
    within = squares / repeats if repeats else None
    between = error = None
    if k > 1:
        spread = math.fsum((means[label] - mean) ** 2 for _, label in pairs) / (k - 1)
        inverse = math.fsum(m / len(retrains[c]) for c, m in shared.items())
        common = math.fsum(m**2 / len(retrains[c]) for c, m in shared.items()) / k
        noise = (within or 0.0) * (inverse - common) / (k - 1)
        between = math.sqrt(max(0.0, spread - noise))
        error = math.sqrt(spread / k)
    total = sum(len(group) for group in retrains.values())
    return VarianceComponents(
        k, total, mean, between, None if within is None else math.sqrt(within), error
    )
