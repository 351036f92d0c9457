"""Every edge that is worth something: the genotypes of SNAS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darts_ray.errors import ConfigError
from darts_ray.search.deriving.by_strength import ByStrength
from darts_ray.space import Genotype
from darts_ray.space.derivation import GenotypeBuilder

if TYPE_CHECKING:
    from darts_ray.search.run import SearchRun


class EveryEdge(ByStrength):
    """Keeps every edge whose strongest operation is not `none`."""

    def genotype(self, run: SearchRun) -> Genotype:
        """Return the cells of the present alphas."""
        supernet, relaxation = run.supernet, run.method.relaxation
        builder = GenotypeBuilder(supernet.space)
        for name, p in relaxation.strength(supernet.alphas, supernet.space).items():
            edges = supernet.space.cell(name).edges
            best = dict(enumerate(p.argmax(-1).tolist()))
            kept = {row: c for row, c in best.items() if edges[row].primitives[c] != "none"}
            if not kept:
                raise ConfigError(
                    f"method: {run.method.name} found nothing but `none` for the cell {name!r};"
                    " leave `none` out of the space's primitives, or search with another seed."
                )
            for row, column in kept.items():
                builder.keep(name, row, column)
        return builder.build()
