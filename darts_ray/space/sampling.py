"""Random architectures of a space, by the distributions that published baselines use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from darts_ray.errors import ConfigError
from darts_ray.space.derivation import GenotypeBuilder
from darts_ray.space.genotype import Genotype
from darts_ray.space.spaces import SearchSpace
from darts_ray.space.topology import CellSpace

Distribution = Literal["derivation", "li_talwalkar"]
Generator = np.random.Generator | torch.Generator | int
Draw = Callable[[int], int]
"""Returns a uniform integer below its argument."""


def sample(
    space: SearchSpace, generator: Generator, distribution: Distribution = "derivation"
) -> Genotype:
    """Draw an architecture.

    `derivation` (Yang et al., ICLR 2020) is uniform over what a derivation can return: per node
    the kept edges are a uniform subset of the possible ones, each with a uniform primitive other
    than `none`. `li_talwalkar` (UAI 2019, also for S1 to S4) draws the same edges, and the
    primitives of conv cells with `none` among them; recurrent cells never draw `none`.

    A cell that keeps every edge (NAS-Bench-201) draws each primitive uniformly with `none`, in
    both; it is drawn again while a node has only `none` (the benchmark's `urs`).

    Args:
        space: of which to draw.
        generator: of numpy or torch, which is advanced; or a seed.
        distribution: see above.

    Raises:
        ConfigError: the distribution is not known.
    """
    if distribution not in ("derivation", "li_talwalkar"):
        raise ConfigError(
            f"sample: distribution is {distribution!r}; it must be 'derivation' or 'li_talwalkar'."
        )
    draw = _draw(generator)
    builder = GenotypeBuilder(space)
    for cell in space.cells:
        with_none = distribution == "li_talwalkar" and space.skeleton != "language_model"
        picks = _kept(cell, draw, with_none) if cell.keep else _every_edge(cell, draw)
        for row, column in picks:
            builder.keep(cell.name, row, column)
    return builder.build()


def _kept(cell: CellSpace, draw: Draw, with_none: bool) -> list[tuple[int, int]]:
    assert cell.keep is not None
    picks: list[tuple[int, int]] = []
    for node in range(cell.nodes):
        rows = list(cell.rows(node))
        chosen = [rows.pop(draw(len(rows))) for _ in range(min(cell.keep, len(rows)))]
        for row in sorted(chosen):
            names = cell.edges[row].primitives
            columns = [k for k, name in enumerate(names) if with_none or name != "none"]
            picks.append((row, columns[draw(len(columns))]))
    return picks


def _every_edge(cell: CellSpace, draw: Draw) -> list[tuple[int, int]]:
    while True:
        picks = [(row, draw(len(edge.primitives))) for row, edge in enumerate(cell.edges)]
        alive = {
            cell.edges[row].node
            for row, column in picks
            if cell.edges[row].primitives[column] != "none"
        }
        if len(alive) == cell.nodes:
            return picks


def _draw(generator: Generator) -> Draw:
    if isinstance(generator, torch.Generator):
        torch_generator = generator
        return lambda below: int(
            torch.randint(below, (1,), generator=torch_generator, device=torch_generator.device)
        )
    if isinstance(generator, np.random.Generator):
        numpy_generator = generator
    else:
        numpy_generator = np.random.default_rng(generator)
    return lambda below: int(numpy_generator.integers(below))
