"""Cells drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from darts_ray.config.base import PositiveInt
from darts_ray.config.methods.base import MethodConfig

if TYPE_CHECKING:
    from darts_ray.config.search import SearchConfig


class RandomConfig(MethodConfig):
    """A cell drawn at random; nothing is trained."""

    trains_alphas = False

    name: Literal["random"] = "random"

    def total_epochs(self, search: SearchConfig) -> int:
        """Return 1."""
        return 1


class RandomWSConfig(MethodConfig):
    """Random search with weight sharing."""

    draws = True
    picks_operations = True
    trains_alphas = False

    name: Literal["random_ws"] = "random_ws"
    samples: PositiveInt = Field(1000, description="Cells drawn after the training, per round.")
    batches: PositiveInt = Field(10, description="Validation batches that each is scored on.")
    finalists: PositiveInt = Field(10, description="Cells scored on all validation data.")
    steps_per_round: PositiveInt = Field(
        10_000, description="One round of samples per so many steps of training, at least one."
    )
