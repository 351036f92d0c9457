"""What is strong enough, and no more: the sparse genotypes of FairDARTS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from darts_ray.search.deriving.by_strength import ByStrength
from darts_ray.space import Genotype
from darts_ray.space.derivation import GenotypeBuilder

if TYPE_CHECKING:
    from darts_ray.search.run import SearchRun


@dataclass
class AboveThreshold(ByStrength):
    """Keeps what is strong enough.

    Attributes:
        threshold: smallest p.
    """

    threshold: float

    def genotype(self, run: SearchRun) -> Genotype:
        """Return the cells of the present alphas; at least one edge each."""
        supernet, space = run.supernet, run.supernet.space
        builder = GenotypeBuilder(space)
        for name, p in run.method.relaxation.strength(supernet.alphas, space).items():
            cell = space.cell(name)
            best = [
                _strongest(p[row].tolist(), edge.primitives) for row, edge in enumerate(cell.edges)
            ]
            kept = []
            for node in range(cell.nodes):
                ranked = sorted(cell.rows(node), key=lambda row: -best[row][0])
                kept += [r for r in ranked[: cell.keep] if best[r][0] >= self.threshold]
            for row in kept or [max(range(len(best)), key=lambda row: best[row][0])]:
                builder.keep(name, row, best[row][1])
        return builder.build()


def _strongest(p: list[float], primitives: tuple[str, ...]) -> tuple[float, int]:
    """Return the largest weight of an edge besides that of `none`, and its column."""
    pairs = [(p[column], -column) for column, op in enumerate(primitives) if op != "none"]
    weight, column = max(pairs)
    return weight, -column
