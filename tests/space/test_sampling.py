"""Random architectures: their distributions, by chi-square tests with fixed seeds."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from darts_ray.errors import ConfigError
from darts_ray.space import Genotype, SearchSpace, spaces

NUM = 4000
LIKELY = 1e-4


def nodes(space: SearchSpace, cell: str, seed: int = 0, **options: Any) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [space.sample(generator, **options).cells[cell] for _ in range(NUM)]


def chi_square(drawn: list[Any], expected: set[Any]) -> float:
    counts = Counter(drawn)
    assert set(counts) == expected
    return float(stats.chisquare([counts[value] for value in sorted(expected, key=str)]).pvalue)


def picked(kept: Any) -> frozenset[tuple[str, int]]:
    return frozenset((op, source) for op, source in kept)


@pytest.mark.parametrize(("distribution", "with_none"), [("derivation", 0), ("li_talwalkar", 1)])
def test_pairs_of_inputs_and_primitives_are_uniform(distribution: Any, with_none: int) -> None:
    space = spaces["s3"]  # none, skip_connect, sep_conv_3x3 on every edge
    names = ["skip_connect", "sep_conv_3x3", *(["none"] if with_none else [])]
    drawn = nodes(space, "reduce", distribution=distribution)
    for node in (0, 3):
        expected = {
            frozenset(zip(operations, pair, strict=True))
            for pair in combinations(range(2 + node), 2)
            for operations in product(names, repeat=2)
        }
        assert chi_square([picked(cell[node]) for cell in drawn], expected) > LIKELY


def test_an_edge_draws_from_its_own_list() -> None:
    space = spaces["s1"]
    edges = {(edge.source, edge.node): edge.primitives for edge in space.cell("normal").edges}
    drawn = nodes(space, "normal")
    expected = {
        frozenset([(a, i), (b, k)])
        for i, k in combinations(range(4), 2)
        for a in edges[i, 2]
        for b in edges[k, 2]
    }
    assert chi_square([picked(cell[2]) for cell in drawn], expected) > LIKELY


def test_every_edge_of_nasbench201_is_uniform_where_no_node_is_without_input() -> None:
    space = spaces["nasbench201"]
    names = space.cells[0].primitives
    drawn = nodes(space, "cell")
    for node in (0, 1):
        expected = {
            operations
            for operations in product(names, repeat=node + 1)
            if set(operations) != {"none"}
        }
        found = [tuple(op for op, _ in cell[node]) for cell in drawn]
        assert chi_square(found, expected) > LIKELY
    counts = Counter(op for cell in drawn for op, _ in cell[2])
    # of 125 triples the one with three `none` is drawn again
    share = {op: (24 / 124 if op == "none" else 25 / 124) for op in names}
    found_counts = [counts[op] for op in names]
    assert stats.chisquare(found_counts, [share[op] * 3 * NUM for op in names]).pvalue > LIKELY


def test_a_recurrent_node_draws_predecessor_and_activation() -> None:
    drawn = nodes(spaces["recurrent"], "recurrent")
    names = set(spaces["recurrent"].cells[0].primitives) - {"none"}
    assert (
        chi_square([tuple(cell[2][0]) for cell in drawn], set(product(names, range(3)))) > LIKELY
    )


def test_cells_of_different_kinds_are_independent() -> None:
    generator = np.random.default_rng(1)
    table = np.zeros((2, 2))
    for _ in range(1000):
        cells = spaces["s2"].sample(generator).cells
        first, second = (cells[name][0][0][0] == "skip_connect" for name in ("normal", "reduce"))
        table[int(first), int(second)] += 1
    assert stats.chi2_contingency(table).pvalue > LIKELY


def test_any_generator_and_a_seed() -> None:
    space = spaces["s2"]
    assert space.sample(3) == space.sample(np.random.default_rng(3))
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    first = space.sample(one)
    assert isinstance(first, Genotype)
    assert first == space.sample(other)
    assert first != space.sample(one)
    with pytest.raises(ConfigError, match="distribution is 'uniform'"):
        space.sample(0, distribution="uniform")  # type: ignore[arg-type]
