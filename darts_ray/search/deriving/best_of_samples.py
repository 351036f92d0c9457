"""The best of many sampled cells, scored with shared weights: random search's ending."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from darts_ray.config.methods import RandomWSConfig
from darts_ray.nn.mixing import one_hot
from darts_ray.search.deriving.by_strength import ByStrength
from darts_ray.search.deriving.edges import sample_cell
from darts_ray.space import Genotype

if TYPE_CHECKING:
    from darts_ray.search.run import SearchRun


@dataclass
class BestOfSamples(ByStrength):
    """Scores sampled cells with the shared weights, after the last epoch.

    Attributes:
        config: how many.
        best: the best cell; None before the end, when a random one stands in.
    """

    config: RandomWSConfig
    best: Genotype | None = None

    def end_search(self, run: SearchRun) -> dict[str, Any]:
        """Draw, score, keep the best; return the finalists with their scores."""
        run.supernet.eval()
        space = run.supernet.space
        few = list(itertools.islice(run.batches.evaluation_batches(), self.config.batches))

        def score(cell: Genotype, whole: bool) -> float:
            batches = run.batches.evaluation_batches() if whole else few
            return run.batches.score(run.supernet, batches, one_hot(cell, space))

        steps, per_round = run.config.epochs * len(run.batches), self.config.steps_per_round
        rounds = 1 if per_round is None else max(1, steps // per_round)
        finalists: dict[Genotype, float] = {}
        for _ in range(rounds):
            cells = {sample_cell(space): None for _ in range(self.config.samples)}
            scores = {cell: score(cell, whole=False) for cell in cells}
            for cell in heapq.nlargest(self.config.finalists, scores, key=scores.__getitem__):
                finalists[cell] = score(cell, whole=True)
        self.best = max(finalists, key=finalists.__getitem__)
        ranked = sorted(finalists.items(), key=lambda pair: -pair[1])
        return {
            "sampled_cells": [
                {"genotype": cell.to_json(), "score": value} for cell, value in ranked
            ]
        }

    def genotype(self, run: SearchRun) -> Genotype:
        """Return the best cell, or before the end that of the untrained alphas."""
        return self.best or super().genotype(run)

    def state_dict(self) -> dict[str, Any]:
        """Return the best cell."""
        return {"best": None if self.best is None else self.best.to_json()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it over."""
        self.best = None if state["best"] is None else Genotype.from_json(state["best"])
