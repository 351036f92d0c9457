import math

import numpy as np
import pytest
from scipy import stats

from darts_ray.study.report.statistics import (
    compare,
    rank_correlation,
    rank_test,
    relative_improvement,
    seeds_needed,
    share,
    summarise,
    variance_components,
)


def test_mean_and_sample_deviation() -> None:
    found = summarise([1.0, 2.0, 4.0])
    assert found is not None
    assert found.mean == pytest.approx(7 / 3)
    # deviations -4/3, -1/3, 5/3: squares sum to 42/9; divided by n - 1 = 2
    assert found.std == pytest.approx(math.sqrt(42 / 18))
    assert found.low is None
    assert found.text("{:.2f}".format) == "2.33 ± 1.53"


def test_one_value_has_no_deviation() -> None:
    found = summarise([3.0, math.nan])
    assert found is not None
    assert (found.n, found.std) == (1, None)
    assert found.text("{:.0f}".format) == "3"
    assert summarise([]) is None


def test_interval_covers_the_mean_at_about_its_level() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(40):
        found = summarise(list(rng.normal(size=30)))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low < 0 < found.high
    assert hits >= 33  # binomial(40, 0.95): fewer has a chance below 1 in 100


def test_equal_values_have_an_interval_without_width() -> None:
    found = summarise([0.5] * 5)
    assert found is not None
    assert (found.low, found.high) == (0.5, 0.5)


def test_too_few_seeds_are_not_tested() -> None:
    scores = {"a": dict.fromkeys(range(5), 1.0), "b": dict.fromkeys(range(5), 0.0)}
    (found,) = compare(scores)
    assert found.permutation_p is None
    assert found.difference == 1.0
    assert "too few seeds" in found.verdict


def test_exact_sign_flip_p_value() -> None:
    better = {seed: 1.0 + seed / 10 for seed in range(6)}
    (found,) = compare({"a": better, "b": dict.fromkeys(range(6), 0.0)})
    # all six differences have one sign: 2 of the 2**6 sign patterns are as extreme
    assert found.permutation_p == pytest.approx(2 / 64)
    assert found.wilcoxon_p == pytest.approx(2 / 64)
    assert found.verdict == "differ at the 5 % level"


def test_pairs_are_matched_by_seed() -> None:
    (found,) = compare({"a": {0: 1.0, 1: 2.0, 7: 9.0}, "b": {1: 1.0, 0: 1.0, 8: 0.0}})
    assert (found.n, found.difference) == (2, 0.5)


def test_holm_adjusts_for_the_number_of_comparisons() -> None:
    base = {seed: seed / 100 for seed in range(6)}
    up = {seed: 1 + seed / 10 for seed in range(6)}
    top = {seed: 3 + seed / 7 for seed in range(6)}
    found = compare({"a": base, "b": up, "c": top})
    assert [item.permutation_p for item in found] == [pytest.approx(2 / 64)] * 3
    # Holm: 3 * 2/64, then never less
    assert [item.adjusted_p for item in found] == [pytest.approx(6 / 64)] * 3
    assert {item.verdict for item in found} == {"no difference shown"}


def test_all_pairs_of_many_settings_are_compared() -> None:
    comparisons = compare({name: {0: 1.0} for name in "abcdef"})
    assert len(comparisons) == 15  # 6 * 5 / 2


def test_the_middle_half_and_the_extremes() -> None:
    summary = summarise([8.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    assert summary is not None
    assert (summary.median, summary.interquartile_mean) == (4.5, 4.5)  # mean of 3, 4, 5, 6
    assert summary.worst(more_is_better=True) == 1.0
    assert summary.best(more_is_better=True) == 8.0
    assert summary.worst(more_is_better=False) == 8.0


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_shares_have_the_published_wilson_intervals(
    count: int, n: int, low: float, high: float
) -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    interval = share([True] * count + [False] * (n - count))
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_cliffs_delta_and_probability_of_improvement_by_hand() -> None:
    (comparison,) = compare({"a": {0: 1.0, 1: 3.0, 2: 5.0}, "b": {0: 2.0, 1: 3.0, 2: 0.0}})
    # of 9 pairs a is higher in 1>0 3>2 3>0 5>2 5>3 5>0, lower in 1<2 1<3, equal once
    assert comparison.cliffs_delta == pytest.approx((6 - 2) / 9)
    assert comparison.improvement == pytest.approx((6 + 0.5) / 9)
    (reverse,) = compare(
        {"a": {0: 1.0, 1: 3.0, 2: 5.0}, "b": {0: 2.0, 1: 3.0, 2: 0.0}}, more_is_better=False
    )
    assert reverse.improvement == pytest.approx(1 - 6.5 / 9)


def test_intervals_of_a_comparison_hold_their_values() -> None:
    rng = np.random.default_rng(3)
    a = dict(enumerate(rng.normal(1.0, 1.0, 12)))
    b = dict(enumerate(rng.normal(0.0, 1.0, 12)))
    (comparison,) = compare({"a": a, "b": b})
    assert comparison.low is not None
    assert comparison.high is not None
    assert comparison.low < comparison.difference < comparison.high
    assert comparison.improvement is not None
    assert comparison.improvement_low is not None
    assert comparison.improvement_high is not None
    assert comparison.improvement_low < comparison.improvement < comparison.improvement_high <= 1


def test_relative_improvement_of_yang() -> None:
    darts = [97.47, 97.15, 97.41, 97.05, 96.93, 97.13, 97.40, 97.34]
    random = [97.05, 96.85, 96.57, 97.09, 96.76, 97.10, 96.94, 97.02]
    # Yang et al. 2020, their eight searches on CIFAR-10: means 97.235 and 96.9225
    found = relative_improvement(darts, random)
    assert found is not None
    assert found.percent == pytest.approx(100 * 0.3125 / 96.9225)
    assert relative_improvement([], random) is None


def test_variance_between_searches_and_within_retrains() -> None:
    components = variance_components([[1.0, 3.0], [5.0, 7.0]])
    assert components is not None
    # means 2 and 6; MSW = 4 / 2 = 2, MSB = 16 / 1, n0 = 2: between = (16 - 2) / 2
    assert components.within == pytest.approx(math.sqrt(2))
    assert components.between == pytest.approx(math.sqrt(7))
    assert (components.mean, components.num_searches, components.num_retrains) == (4.0, 2, 4)
    assert components.standard_error == pytest.approx(2.0)  # sd of the means sqrt(8), over sqrt(2)


def test_variance_components_find_what_was_put_in() -> None:
    rng = np.random.default_rng(0)
    groups = [list(rng.normal(rng.normal(0, 2.0), 0.5, size=2 + i % 3)) for i in range(400)]
    components = variance_components(groups)
    assert components is not None
    assert components.between == pytest.approx(2.0, rel=0.1)
    assert components.within == pytest.approx(0.5, rel=0.1)


def test_without_repeats_only_the_sum_of_variances_is_seen() -> None:
    components = variance_components([[1.0], [2.0], [4.0]])
    assert components is not None
    assert components.within is None
    assert components.between == pytest.approx(math.sqrt(7 / 3))
    assert variance_components([[]]) is None


def test_seeds_needed_agree_with_published_tables() -> None:
    # paired t test, two-sided 5 %, power 80 %: effect 0.5 needs 34 pairs, 0.25 needs 128
    differences = np.asarray([-1.0, 1.0] * 8)
    differences = differences / differences.std(ddof=1) + 0.5
    needed = seeds_needed(list(differences))
    assert needed is not None
    assert (needed.for_observed, needed.for_half) == (34, 128)
    assert 0.4 < needed.power < 0.5  # 16 pairs


def test_seeds_needed_at_the_ends() -> None:
    assert seeds_needed([1.0, 2.0]) is None
    same = seeds_needed([0.0, 0.0, 0.0])
    assert same is not None
    assert (same.power, same.for_observed) == (0.0, None)
    certain = seeds_needed([1.0] * 6)
    assert certain is not None
    assert (certain.power, certain.for_observed) == (1.0, 6)


def test_rank_correlations_and_their_intervals() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    correlation = rank_correlation([*x, None], [*y, 1.0])
    assert correlation is not None
    assert correlation.n == 60
    assert correlation.kendall == pytest.approx(stats.kendalltau(x, y).statistic)
    # scipy's own paired bootstrap of the same statistics
    for statistic, low, high in (
        (stats.kendalltau, correlation.kendall_low, correlation.kendall_high),
        (stats.spearmanr, correlation.spearman_low, correlation.spearman_high),
    ):
        interval = stats.bootstrap(
            (x, y),
            lambda a, b, statistic=statistic: statistic(a, b).statistic,
            paired=True,
            vectorized=False,
            n_resamples=999,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        assert (low, high) == pytest.approx((interval.low, interval.high), abs=0.03)
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None


def test_friedman_and_the_critical_difference() -> None:
    rng = np.random.default_rng(0)
    scores = {
        name: dict(enumerate(rng.normal(mean, 1.0, 14)))
        for name, mean in (("a", 0.0), ("b", 0.1), ("c", 5.0), ("d", 5.2))
    }
    test = rank_test(scores)
    assert test is not None
    # Demsar 2006, section 3.2.4: 4 methods on 14 data sets have the critical difference 1.25
    assert test.critical_difference == pytest.approx(1.25, abs=0.005)
    assert test.p < 0.001
    assert set(list(test.mean_ranks)[:2]) == {"c", "d"}
    assert [set(clique) for clique in test.cliques] == [{"c", "d"}, {"a", "b"}]
    assert rank_test({"a": {0: 1.0}, "b": {0: 1.0}, "c": {0: 1.0}}) is None


def test_ranks_follow_the_direction_of_the_score() -> None:
    scores = {name: {s: rank + s for s in range(6)} for rank, name in enumerate("abc")}
    low_first = rank_test(scores, more_is_better=False)
    assert low_first is not None
    assert list(low_first.mean_ranks.items()) == [("a", 1.0), ("b", 2.0), ("c", 3.0)]
    # three groups perfectly ordered in six blocks: 12 / (6 * 3 * 4) * (6^2 + 12^2 + 18^2) - 72
    assert low_first.statistic == pytest.approx(12.0)


def test_searches_that_share_a_cell_share_its_retrains() -> None:
    # cell a (1, 3; mean 2) of two searches, cell b (5, 7; mean 6) of one: means 2, 2, 6
    found = variance_components([[1.0, 3.0], [1.0, 3.0], [5.0, 7.0]], ["a", "a", "b"])
    assert found is not None
    # var(e) = (1 + 1 + 1 + 1) / 2 = 2; S^2 = (2 * (4/3)^2 + (8/3)^2) / 2 = 16/3
    # v = 2 / 2 * (3/2 - (4/2 + 1/2) / 3) = 2/3
    assert found.within == pytest.approx(math.sqrt(2))
    assert found.between == pytest.approx(math.sqrt(16 / 3 - 2 / 3))
    assert (found.num_searches, found.num_retrains) == (3, 4)
    assert found.mean == pytest.approx(10 / 3)


def test_variance_of_unequal_groups_by_hand() -> None:
    # means 2, 6 and 7; var(e) = (2 + 2) / 2 = 2; S^2 = 7; v = 2 * (1/2 + 1/2 + 1) / 3 = 4/3
    found = variance_components([[1.0, 3.0], [5.0, 7.0], [7.0]])
    assert found is not None
    assert found.within == pytest.approx(math.sqrt(2))
    assert found.between == pytest.approx(math.sqrt(7 - 4 / 3))


def test_shared_cells_leave_the_estimate_unbiased() -> None:
    rng = np.random.default_rng(3)
    estimates = []
    for _ in range(2000):
        cells = rng.integers(0, 4, size=6)
        effects, noise = rng.normal(0, 0.0, size=4), rng.normal(0, 1.0, size=(4, 2))
        if len(set(cells)) < 2:
            continue
        found = variance_components([list(effects[c] + noise[c]) for c in cells], list(cells))
        assert found is not None
        assert found.within is not None
        estimates.append(found.within**2)
    assert np.mean(estimates) == pytest.approx(1.0, rel=0.05)


def test_relative_improvement_by_hand_and_its_interval() -> None:
    ours, theirs = [0.94, 0.95, 0.96, 0.95, 0.95], [0.90, 0.89, 0.91, 0.90, 0.90]
    found = relative_improvement(ours, theirs)
    assert found is not None
    assert found.percent == pytest.approx(100 * (0.95 - 0.90) / 0.90)  # Yang et al. 2020
    assert found.low is not None
    assert found.high is not None
    # delta method; squared deviations sum to 2e-4, so a resampled mean has variance 2e-4 / 25
    spread = 100 * 0.95 / 0.90 * math.sqrt(2e-4 / 25 * (1 / 0.95**2 + 1 / 0.90**2))
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.25)
    assert found.low < found.percent < found.high
    assert relative_improvement([], theirs) is None
    few = relative_improvement(ours[:4], theirs)
    assert few is not None
    assert few.low is None
