import math

import numpy as np
import pytest

from darts_ray.study.report.statistics import compare, summarise


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


def test_many_settings_are_compared_with_the_first() -> None:
    found = compare({name: {0: 1.0} for name in "abcdef"})
    assert [(item.first, item.second) for item in found] == [("a", other) for other in "bcdef"]


def test_equal_settings() -> None:
    (found,) = compare({"a": dict.fromkeys(range(6), 1.0), "b": dict.fromkeys(range(6), 1.0)})
    assert (found.permutation_p, found.verdict) == (1.0, "no difference shown")
