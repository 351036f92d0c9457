"""The shipped table against what is published of it."""

from __future__ import annotations

import pytest

from darts_ray.benchmarks import nasbench201
from darts_ray.errors import ConfigError
from darts_ray.space import arch_string, spaces


@pytest.mark.parametrize(
    ("dataset", "best", "resnet", "convs", "skips", "mean", "std", "median"),
    [
        ("cifar10", 94.37, 94.04, 93.76, 54.30, 87.06, 12.93, 90.75),
        ("cifar100", 73.51, 71.80, 71.11, 15.61, 61.41, 12.17, 65.29),
        ("ImageNet16-120", 47.31, 45.63, 41.44, 16.32, 33.59, 9.51, 36.39),
    ],
)
def test_published_figures(
    dataset: str,
    best: float,
    resnet: float,
    convs: float,
    skips: float,
    mean: float,
    std: float,
    median: float,
) -> None:
    # the optima are those of Dong and Yang's papers; the others follow from the same table
    assert nasbench201.optimum(dataset)[1] == pytest.approx(best, abs=0.005)
    for cell, value in (
        (nasbench201.RESNET_LIKE, resnet),
        (nasbench201.ALL_CONV3X3, convs),
        (nasbench201.ALL_SKIP, skips),
    ):
        assert nasbench201.accuracy(cell, dataset) == pytest.approx(value, abs=0.006)
    found = nasbench201.random_mean_and_std(dataset)
    assert found == (pytest.approx(mean, abs=0.006), pytest.approx(std, abs=0.006))
    assert nasbench201.quantiles(dataset, [0.5])[0.5] == pytest.approx(median, abs=0.006)


def test_cells_are_found_as_genotype_string_and_number() -> None:
    best, value = nasbench201.optimum("cifar10")
    assert nasbench201.accuracy(best, "cifar10") == value
    assert nasbench201.index(arch_string(best)) == nasbench201.index(best) == 6111
    assert nasbench201.genotype(6111) == best
    assert nasbench201.rank(best) == 1
    assert nasbench201.rank(nasbench201.ALL_SKIP) > 15_000
    assert len(nasbench201.accuracies()) == 15_625 == 5**6


def test_every_cell_of_the_space_is_in_the_table() -> None:
    for seed in range(50):
        cell = spaces["nasbench201"].sample(seed)
        assert 0 < nasbench201.accuracy(cell, "cifar100") < 74


def test_twelve_epochs_are_another_number() -> None:
    long = nasbench201.accuracies("cifar10")
    short = nasbench201.accuracies("cifar10", budget="12")
    assert short.max() < 90 < long.max()


def test_where_the_numbers_come_from() -> None:
    assert "Dong and Yang" in nasbench201.source()
    assert "MIT" in nasbench201.source()


def test_mistakes_name_the_remedy() -> None:
    with pytest.raises(ConfigError, match="it has cifar10, cifar100, imagenet16-120"):
        nasbench201.accuracy(nasbench201.ALL_SKIP, "svhn")
    with pytest.raises(ConfigError, match="Architecture string: node 2"):
        nasbench201.accuracy("|none~0|+|none~0|none|+|none~0|none~1|none~2|", "cifar10")
    with pytest.raises(ConfigError, match="is no cell of the space"):
        nasbench201.accuracy("|none~0|+|none~0|none~1|", "cifar10")
    with pytest.raises(ConfigError, match="is no cell of the space"):
        nasbench201.accuracy(nasbench201.ALL_SKIP.replace("skip_connect~2", "sep_conv_3x3~2"))
    with pytest.raises(ConfigError, match="numbered from 0 to 15624"):
        nasbench201.genotype(15_625)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        nasbench201.quantiles(shares=[2.0])
