"""What figures show, and that settings can be told apart in them."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from darts_ray.space import ConvGenotype, Genotype, zoo
from darts_ray.study.files.measure import Measure
from darts_ray.study.report.agreement import distance, mean_distance
from darts_ray.study.report.figures.curves import (
    MAX_VECTOR_LINES,
    eigenvalue_curves,
    search_curves,
)
from darts_ray.study.report.figures.data import curve_data, rank_data
from darts_ray.study.report.figures.frequencies import draw_frequencies, edge_frequencies
from darts_ray.study.report.figures.style import PALETTE, looks
from darts_ray.study.report.statistics import rank_test

ACCURACY = Measure("accuracy", True)


def searches(seeds: int, epochs: int = 4, **columns: float) -> pd.DataFrame:
    rows = [
        {
            "stage": "search",
            "trial": f"{setting}-{seed}",
            "setting": setting,
            "seed": seed,
            "epoch": epoch,
            "validation_accuracy": 0.5 + 0.01 * seed,
            **columns,
        }
        for setting in ("a", "b")
        for seed in range(seeds)
        for epoch in range(1, epochs + 1)
    ]
    return pd.DataFrame(rows)


def test_any_two_settings_differ_in_colour_or_in_dash_and_mark() -> None:
    for first, second in combinations(looks(4 * len(PALETTE)), 2):
        assert first.colour != second.colour or (
            first.dash != second.dash and first.mark != second.mark
        )
    # up to seven, the colours of Okabe and Ito are enough
    assert {look.mark for look in looks(len(PALETTE))} == {None}


def test_many_searches_do_not_make_a_large_figure() -> None:
    few = search_curves(searches(MAX_VECTOR_LINES // 2), ACCURACY)
    many = search_curves(searches(200, epochs=50), ACCURACY)
    assert b"<image" not in few
    assert b"<image" in many
    assert len(re.findall(rb"<path", many)) < 100


def test_eigenvalues_are_drawn_where_they_were_measured() -> None:
    assert eigenvalue_curves(searches(2)) is None
    rows = searches(2, dominant_eigenvalue=0.3)
    plain = eigenvalue_curves(rows)
    assert plain is not None
    # a search that was stopped has a cross at the epoch whose cell was taken
    rows["stopped_at"] = np.nan
    rows.loc[(rows["trial"] == "a-0") & (rows["epoch"] == 4), "stopped_at"] = 2
    stopped = eigenvalue_curves(rows)
    assert stopped is not None
    assert stopped.count(b"<use") == plain.count(b"<use") + 1
    data = curve_data(rows, "search", ACCURACY)
    assert data is not None
    assert "dominant_eigenvalue" in data.text.splitlines()[0]


def test_frequencies_of_edges_and_primitives() -> None:
    def cell(primitive: str, source: int) -> Genotype:
        reduce = [("max_pool_3x3", 0), ("max_pool_3x3", 1)]
        return ConvGenotype([(primitive, source), ("skip_connect", 1)], [2], reduce, [2])

    # of four searches three have a sep conv on the first edge, one a dil conv
    cells = [cell("sep_conv_3x3", 0)] * 3 + [cell("dil_conv_3x3", 0)]
    rows = edge_frequencies({"a": cells})
    normal = rows[rows["cell"] == "normal"].pivot_table(
        index="primitive", columns="edge", values="share", sort=False
    )
    assert normal.shape == (3, 2)
    first, second = normal.columns
    assert normal.loc["sep_conv_3x3", first] == 0.75
    assert normal.loc["dil_conv_3x3", first] == 0.25
    assert normal.loc["skip_connect", second] == 1
    assert normal.loc["sep_conv_3x3", second] == 0
    assert draw_frequencies(rows).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["DARTS_V2", "RECURRENT_DARTS_V1"])
def test_frequencies_in_every_kind_of_cell(name: str) -> None:
    genotype = zoo[name]
    rows = edge_frequencies({"-": [genotype, genotype]})
    # whatever both searches have is on its edge always
    edges = sum(len(set(node)) for nodes in genotype.cells.values() for node in nodes)
    assert (rows["share"] == 1).sum() == edges
    assert draw_frequencies(rows).startswith(b"\x89PNG")


def test_names_of_states_can_be_drawn() -> None:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    missing = [c for c in "c\u2096\u208b\u2081\u2082" if not font.get_char_index(ord(c))]
    assert missing == []


def test_ranks_have_their_numbers() -> None:
    scores = {name: {seed: value + seed / 100 for seed in range(6)} for name, value in
              (("a", 0.9), ("b", 0.8), ("c", 0.7))}  # fmt: skip
    test = rank_test(scores)
    assert test is not None
    lines = rank_data(test).text.splitlines()
    assert lines[0] == "setting,mean_rank,critical_difference"
    assert [line.split(",")[:2] for line in lines[1:]] == [["a", "1"], ["b", "2"], ["c", "3"]]


def test_mean_distance_is_that_of_all_pairs() -> None:
    cells = [zoo["DARTS_V1"], zoo["DARTS_V2"], zoo["AmoebaNet"], zoo["DARTS_V2"]]
    pairs = [distance(a, b) for a, b in combinations(cells, 2)]
    assert mean_distance(cells) == pytest.approx(sum(pairs) / 6)
