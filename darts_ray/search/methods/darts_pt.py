"""DARTS-PT (Wang et al., ICLR 2021): the supernet of any method, discretised by perturbation.

The base method trains as usual. Then, with a fresh SGD at the constant rate 0.0025, one edge of
each kind of cell is decided every 5 epochs, and at last which edges stay; see `projection`.
In the space of DARTS these are 14 + 3 rounds and 81 epochs. `fixed_alpha` never trains the alphas,
so that the supernet is a uniform mixture; `criterion: magnitude` is the ablation that tunes in the
same way and picks by strength.

Every space, order and base that derives by strength. Twice the time of its base for 50 epochs: the
tuning, and one pass over the alphas' data per candidate.
"""

from __future__ import annotations

from dataclasses import replace

from darts_ray.config.methods import DartsPTConfig
from darts_ray.search.deriving.projection import PROJECTION, Projection
from darts_ray.search.parts import Method, Phase
from darts_ray.space import SearchSpace


def darts_pt(config: DartsPTConfig) -> Method:
    """Return the base method with another ending."""
    from darts_ray.search.methods import methods  # it lists this module

    base = methods.make(config.base)

    def phases(epochs: int, space: SearchSpace) -> tuple[Phase, ...]:
        trained = tuple(
            replace(phase, alpha_step=phase.alpha_step and not config.fixed_alpha)
            for phase in base.phases(epochs, space)
        )
        tuning = Phase(
            PROJECTION,
            config.tuning_epochs(space),
            alpha_step=not config.fixed_alpha,
            weight_lr=config.weight_lr,
            resets=True,
        )
        return *trained, tuning

    return replace(
        base,
        name=config.name,
        phases=phases,
        derivation=lambda: Projection(config),
        projects=True,
    )
