"""Which cells count as collapsed, and how alike the cells of different searches are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from darts_ray.space import Genotype, SearchSpace

NUM_RANDOM_CELLS = 60
"""Cells that are drawn to say how alike random ones are; their 1,770 pairs are compared."""


def has_collapsed(genotype: Genotype) -> bool:
    """Tell whether a cell counts as collapsed.

    In the skeleton of NAS-Bench-201: at most one convolution, which is what costs accuracy there.
    Elsewhere: at least half of the normal cell's primitives are skip connections (Zela et al.
    2020 count skips). Recurrent cells do not collapse in this sense.
    """
    cell = next(iter(genotype.cells.values()))
    primitives = [edge.primitive for node in cell for edge in node]
    if genotype.skeleton == "language_model":
        return False
    if genotype.skeleton == "nasbench201":
        return sum("conv" in primitive for primitive in primitives) <= 1
    return 2 * primitives.count("skip_connect") >= len(primitives)


def distance(first: Genotype, second: Genotype) -> float:
    """Return the share of edges on which two cells differ, from 0 to 1.

    Edges are counted that at least one of the two has; two edges between the same states differ
    if their primitives do.
    """
    ours, theirs = _edges(first), _edges(second)
    places = ours.keys() | theirs.keys()
    return sum(ours.get(place) != theirs.get(place) for place in places) / len(places)


def mean_distance(genotypes: Sequence[Genotype]) -> float | None:
    """Return the mean distance over all pairs; None for fewer than two.

    With H[i, k] = 1 where cell i has the primitives k on their edge, and P[i, e] = 1 where it has
    edge e, two cells share (H H^T)[i, j] edges and have |P_i| + |P_j| - (P P^T)[i, j] in all: so
    thousands of searches are compared at once.
    """
    n = len(genotypes)
    if n < 2:
        return None
    edges = [_edges(genotype) for genotype in genotypes]
    shared = _products([set(own.items()) for own in edges])
    places = _products([set(own) for own in edges])
    sizes = np.diag(places)
    union = sizes[:, None] + sizes - places
    distances = 1 - shared / union
    return float(distances[np.triu_indices(n, 1)].mean())


def _products(having: Sequence[set[Any]]) -> npt.NDArray[np.float64]:
    """Return how many elements each two sets share, (sets, sets)."""
    numbers = {item: index for index, item in enumerate(set().union(*having))}
    flags = np.zeros((len(having), len(numbers)))
    for row, items in zip(flags, having, strict=True):
        row[[numbers[item] for item in items]] = 1
    return flags @ flags.T


def _edges(genotype: Genotype) -> dict[tuple[str, int, int], frozenset[str]]:
    edges: dict[tuple[str, int, int], frozenset[str]] = {}
    for cell, nodes in genotype.cells.items():
        for number, node in enumerate(nodes):
            for edge in node:
                place = (cell, number, edge.predecessor)
                edges[place] = edges.get(place, frozenset()) | {edge.primitive}
    return edges


def random_distance(space: SearchSpace) -> float | None:
    """Return the mean distance of two random cells of a space."""
    return mean_distance([space.sample(seed) for seed in range(NUM_RANDOM_CELLS)])
