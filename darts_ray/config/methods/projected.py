"""Perturbation-based selection on top of another method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from darts_ray.config.base import PositiveFloat, PositiveInt
from darts_ray.config.methods.base import MethodConfig
from darts_ray.config.methods.deterministic import DartsConfig
from darts_ray.config.methods.naming import AnyMethod
from darts_ray.space import CellSpace, SearchSpace

if TYPE_CHECKING:
    from darts_ray.config.search import SearchConfig


class DartsPTConfig(MethodConfig):
    """DARTS-PT: perturbation-based selection, on top of any method."""

    name: Literal["darts_pt"] = "darts_pt"
    base: AnyMethod = DartsConfig()
    fixed_alpha: bool = Field(False, description="Never train the alphas.")
    criterion: Literal["perturbation", "magnitude"] = Field(
        "perturbation", description="magnitude: the ablation, the same tuning with other picks."
    )
    interval: PositiveInt = Field(5, description="Epochs of tuning between two decisions.")
    weight_lr: PositiveFloat = Field(0.0025, description="Constant, of a fresh SGD.")

    def check(self, search: SearchConfig) -> None:
        """Check the method below as well."""
        if self.base.name in ("darts_pt", "random", "random_ws", "fair_darts"):
            raise ValueError(
                f"method.base: {self.base.name!r} derives its cells in its own way; choose one of"
                " the methods that derive by strength"
            )
        self.base.check(search)
        if search.graphs:
            raise ValueError("graphs: darts_pt decides edge by edge; set graphs: false")

    def completed(self, search: SearchConfig) -> Self:
        """Complete the method below."""
        base = self.base.completed(search)
        if base is self.base:
            return self
        complete = self.model_copy()
        object.__setattr__(complete, "base", base)
        return complete

    def total_epochs(self, search: SearchConfig) -> int:
        """Return the search's epochs and those of the tuning."""
        return self.base.total_epochs(search) + self.tuning_epochs(search.search_space())

    def num_decisions(self, space: SearchSpace) -> int:
        """Return the rounds: one edge of every cell kind each, then one incoming edge too many."""
        return max(cell.num_edges + _num_dropped(cell) for cell in space.cells)

    def tuning_epochs(self, space: SearchSpace) -> int:
        """Return the epochs of the projection phase: the last one makes the last decision.

        In the space of DARTS this is a whole number of intervals after the first decision; on
        NAS-Bench-201 the published code tunes one epoch less, 25 for six decisions.
        """
        last = 0 if space.skeleton == "nasbench201" and self.interval > 1 else 1
        return max(1, self.interval * (self.num_decisions(space) - 1) + last)


def _num_dropped(cell: CellSpace) -> int:
    """Return the nodes that have more predecessors than they keep."""
    most = cell.keep or cell.num_edges
    return sum(len(cell.rows(node)) > most for node in range(cell.nodes))
