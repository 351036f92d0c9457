"""From a trained supernet to a genotype: by strength, or what a method does instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from darts_ray.search.deriving.edges import derive_by_strength
from darts_ray.search.parts import Phase, Softmax
from darts_ray.space import Genotype

if TYPE_CHECKING:
    from darts_ray.search.run import SearchRun


class ByStrength:
    """Keeps what is strongest, by the relaxation's own measure; the base of other derivations."""

    def begin_epoch(self, run: SearchRun, phase: Phase, epoch: int) -> dict[str, Any]:
        """Decide nothing."""
        return {}

    def end_search(self, run: SearchRun) -> dict[str, Any]:
        """Decide nothing."""
        return {}

    def genotype(self, run: SearchRun) -> Genotype:
        """Return the strongest cell of the present alphas."""
        relaxation = run.method.relaxation
        if type(relaxation) is Softmax:
            return run.supernet.genotype()
        supernet = run.supernet
        return derive_by_strength(
            {
                name: values.detach().cpu()
                for name, values in relaxation.strength(supernet.alphas, supernet.space).items()
            },
            supernet.space,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the alphas say it all."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""
