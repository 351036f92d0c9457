"""Cells drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

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
    samples: PositiveInt = Field(
        1000,
        description="Cells drawn after the training, per round; default in nasbench201: 100.",
    )
    batches: PositiveInt = Field(
        10, description="Validation batches that each is scored on; default in nasbench201: 1."
    )
    finalists: PositiveInt = Field(
        10, description="Cells scored on all validation data; default in nasbench201: 1."
    )
    steps_per_round: PositiveInt | None = Field(
        10_000,
        description="One round of samples per so many steps of training, at least one; null: one,"
        " the default in nasbench201.",
    )

    def constants(self, search: SearchConfig) -> Mapping[str, Any]:
        """Return NATS-Bench's values: the best of 100 cells by one batch each."""
        if search.search_space().skeleton != "nasbench201":
            return {}
        return {"samples": 100, "batches": 1, "finalists": 1, "steps_per_round": None}
