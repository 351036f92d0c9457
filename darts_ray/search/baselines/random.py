"""A random cell: the baseline that costs nothing.

Alphas are drawn from 1e-3 * N(0, 1), as at the start of every search, and the cell is derived from
them at once. That is uniform over pairs of predecessors and, independently, over operations other
than `none` (Yang et al., ICLR 2020; the random cells of the DARTS paper): the same cells that a
derivation can return. Where every edge is kept, as in NAS-Bench-201, it is uniform over all
operations. The best of k random cells is a study with k seeds and a select section.

Every space. One epoch without training; its validation metrics are those of an untrained supernet.
"""

from __future__ import annotations

from darts_ray.config.methods import RandomConfig
from darts_ray.search.parts import Method, Phase


def random(config: RandomConfig) -> Method:
    """Return the method."""
    return Method(
        config.name,
        phases=lambda epochs, space: (Phase("draw", 1, trains_weights=False, alpha_step=False),),
    )
