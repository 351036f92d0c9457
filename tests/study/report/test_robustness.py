"""Statistics over the seeds of a made-up study."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from darts_ray.benchmarks import nasbench201
from darts_ray.space import ConvGenotype, Edge, Genotype, spaces, zoo
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import Record, SearchEntry
from darts_ray.study.files.study import Study, load_study
from darts_ray.study.plan.truth import with_true_accuracies
from darts_ray.study.report.agreement import distance, has_collapsed, mean_distance
from darts_ray.study.report.page import _robustness, render_report
from darts_ray.study.report.robustness import Robustness, assess, split_stopped
from darts_ray.study.report.summary import result_rows
from darts_ray.study.report.truth import true_accuracies
from tests.study.fabricated import image_config, search_outcome, training_outcome, write_study

ACCURACY = Measure("accuracy", True)
SKIPS = ConvGenotype(
    [("skip_connect", 0), ("skip_connect", 1)],
    [2],
    [("max_pool_3x3", 0), ("skip_connect", 1)],
    [2],
)


def entry(
    setting: str, seed: int, score: float, *, epochs: int = 5, cell: Genotype
) -> SearchEntry:
    return SearchEntry(f"{setting}-{seed}", setting, seed, cell, score, 1, 100, epochs)


def record(*entries: SearchEntry) -> Record:
    return Record(search=tuple(entries))


def test_collapse_is_counted_per_setting() -> None:
    cells = [SKIPS, SKIPS, zoo["DARTS_V2"]]
    found = assess(
        record(*(entry("a", seed, 0.9, cell=cell) for seed, cell in enumerate(cells))),
        load_frame(),
        ACCURACY,
        spaces["darts"],
    )
    (row,) = found.settings
    assert row.collapsed is not None
    assert (row.collapsed.count, row.collapsed.n, row.num_cells) == (2, 3, 2)
    assert found.random_distance is not None
    assert 0.5 < found.random_distance < 1


def test_what_counts_as_collapsed() -> None:
    assert has_collapsed(SKIPS)
    assert not has_collapsed(zoo["DARTS_V2"])  # two of eight are skips
    assert not has_collapsed(zoo["RECURRENT_DARTS_V1"])
    assert has_collapsed(benchmark_cell("skip_connect", "avg_pool_3x3"))
    assert not has_collapsed(benchmark_cell("nor_conv_1x1", "avg_pool_3x3"))


def benchmark_cell(second: str, third: str) -> Genotype:
    """A NAS-Bench-201 cell with one convolution and the given primitives."""
    nodes = (
        (Edge("nor_conv_3x3", 0),),
        (Edge(second, 0), Edge("none", 1)),
        (Edge("skip_connect", 0), Edge(third, 1), Edge("none", 2)),
    )
    return Genotype({"cell": nodes})


def test_distance_counts_edges_that_differ() -> None:
    other = ConvGenotype(
        [("skip_connect", 0), ("sep_conv_3x3", 1)],
        [2],
        [("max_pool_3x3", 0), ("skip_connect", 1)],
        [2],
    )
    assert distance(SKIPS, SKIPS) == 0
    assert distance(SKIPS, other) == pytest.approx(1 / 4)
    assert mean_distance([SKIPS, other, other]) == pytest.approx((1 / 4 + 1 / 4 + 0) / 3)
    assert mean_distance([SKIPS]) is None


def test_what_the_record_says_of_a_search_counts_more_than_its_length() -> None:
    cell = zoo["DARTS_V2"]
    stopped = replace(entry("b", 1, 0.9, epochs=2, cell=cell), stopped=True)
    entries = [
        *(replace(entry("a", seed, 0.5, cell=cell), stopped=False) for seed in range(2)),
        replace(entry("b", 0, 0.5, epochs=3, cell=cell), stopped=False),  # ended by itself
        stopped,
    ]
    for stops_early in (False, True):
        assert split_stopped(record(*entries), stops_early) == (entries[:3], [stopped])


def test_searches_that_were_stopped_early_stay_out() -> None:
    entries = [
        *(entry("a", seed, 0.9, cell=SKIPS) for seed in range(6)),
        *(entry("b", seed, 0.5, cell=SKIPS) for seed in range(6)),
        entry("b", 6, 0.99, epochs=1, cell=SKIPS),
    ]
    found = assess(record(*entries), load_frame(), ACCURACY, spaces["darts"], stops_early=True)
    b = next(row for row in found.settings if row.setting == "b")
    assert b.score is not None
    assert (b.score.n, b.score.mean, b.num_stopped) == (6, 0.5, 1)
    assert {item.verdict for item in found.comparisons} == {
        "no verdict: searches were stopped early"
    }
    assert any("stopped early" in note for note in found.notes)
    # without such a scheduler a search may have fewer epochs by its own rule, and counts
    everything = assess(record(*entries), load_frame(), ACCURACY, spaces["darts"])
    b = next(row for row in everything.settings if row.setting == "b")
    assert b.score is not None
    assert b.score.n == 7


def test_true_accuracies_are_described() -> None:
    skips = Genotype.parse(nasbench201.ALL_SKIP)
    best, optimum = nasbench201.optimum("cifar10")
    cells = [skips, skips, best]
    entries = [entry("a", seed, 0.5, cell=cell) for seed, cell in enumerate(cells)]
    looked_up = with_true_accuracies(entries, ("cifar10", "cifar100"))
    first, second = true_accuracies(looked_up)
    assert (first.dataset, second.dataset) == ("cifar10", "cifar100")
    (row,) = first.settings
    assert row.score.mean == pytest.approx((2 * 54.30 + optimum) / 3, abs=0.01)
    assert (row.below_random.count, row.below_random.n) == (2, 3)
    assert first.optimum == pytest.approx(94.37, abs=0.005)
    # cells of another space have no published accuracy
    (other,) = with_true_accuracies([entry("a", 0, 0.5, cell=zoo["DARTS_V2"])], ("cifar10",))
    assert other.true_accuracy == {}
    assert true_accuracies([other]) == ()


def test_random_cells_are_the_baseline() -> None:
    found = assess(
        record(
            *(entry("method=darts", seed, 0.95, cell=SKIPS) for seed in range(3)),
            *(entry("method=random", seed, 0.90, cell=SKIPS) for seed in range(3)),
        ),
        load_frame(),
        ACCURACY,
        spaces["darts"],
        baseline="method=random",
    )
    assert found.baseline == "method=random"
    darts, random = found.settings
    assert darts.improvement is not None
    assert darts.improvement.percent == pytest.approx(100 * 0.05 / 0.9)
    assert darts.improvement.low is None  # three searches are too few for an interval
    assert random.improvement is None


def test_each_search_is_judged_by_its_own_retrainings(tmp_path: Path) -> None:
    config = image_config(
        tmp_path,
        seeds=[0, 1],
        search={"epochs": 2, "optim": {"xi": {"grid": [0.1, 0.2]}, "order": "unrolled"}},
        select=None,
        export=None,
        retrain={"seeds": [0, 1], "epochs": 4, "cells": "each"},
        baseline="xi=0.2",
    )
    searches = [
        search_outcome(f"t{xi}-{seed}", f"xi={xi}", seed, 2)
        for xi in (0.1, 0.2)
        for seed in (0, 1)
    ]
    # tests of 0.91 and 0.93, 0.95 and 0.97 for xi=0.1; a tenth less for xi=0.2
    retrains = [
        training_outcome(
            "retrain",
            f"retrain-{index}_seed-{seed}",
            search.setting,
            seed,
            4,
            0.91 + 0.04 * (index % 2) + 0.02 * seed - 0.1 * (index // 2),
            test=True,
            config={"genotype": json.loads(search.history[-1]["genotype"])},
        )
        for index, search in enumerate(searches)
        for seed in (0, 1)
    ]
    study = load_study(write_study(config, searches, (), retrains).uri)
    page = render_report(study)
    found = robustness_of(study)
    ours, theirs = found.settings
    assert ours.score is not None
    assert ours.components is not None
    assert ours.score.mean == pytest.approx(0.94)
    # cells' means 0.92 and 0.96; MSW = 4 * 0.01^2 / 2, MSB = 2 * 2 * 0.02^2: in percent points
    assert ours.components.within == pytest.approx(math.sqrt(2e-4))
    assert ours.components.between == pytest.approx(math.sqrt((16e-4 - 2e-4) / 2))
    assert ours.improvement is not None
    assert ours.improvement.percent == pytest.approx(100 * 0.1 / 0.84)
    assert theirs.improvement is None
    assert found.measured.startswith("test accuracy")
    for text in ("sd within retrainings", "4 distinct cells", "over the baseline"):
        assert text in page
    (first, second) = result_rows(study.record, ACCURACY, judges_each=True)
    assert first["test accuracy (%)"] == "94.00 ± 2.83"
    assert second["test accuracy (%)"] == "84.00 ± 2.83"


def test_the_page_answers_how_sure_it_is(tmp_path: Path) -> None:
    config = image_config(
        tmp_path,
        seeds=list(range(6)),
        search={"epochs": 4, "optim": {"xi": {"grid": [0.1, 0.2, 0.3]}, "order": "unrolled"}},
        select=None,
        retrain=None,
        export=None,
    )
    outcomes = [
        search_outcome(f"t{xi}-{seed}", f"xi={xi}", seed, 4)
        for xi in (0.1, 0.2, 0.3)
        for seed in range(6)
    ]
    page = render_report(load_study(write_study(config, outcomes).uri))
    for text in ("How sure is that?", "Holm-adjusted", "critical difference", "seeds for 80 %"):
        assert text in page


def load_frame() -> pd.DataFrame:
    return pd.DataFrame({"stage": [], "trial": [], "epoch": []})


def robustness_of(study: Study) -> Robustness:
    return _robustness(study, study.results(), ACCURACY)
