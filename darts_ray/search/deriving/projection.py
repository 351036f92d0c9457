"""Perturbation-based selection: a supernet becomes a cell edge by edge (Wang et al., ICLR 2021).

An operation matters as much as the supernet's accuracy falls when it is removed; weights and the
remaining alphas are tuned between two decisions. Everything that is decided is in the supernet's
mask: an edge with one primitive left is decided, one with none is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from darts_ray.config.methods import DartsPTConfig
from darts_ray.nn.mixing import Mixing
from darts_ray.search.deriving.by_strength import ByStrength
from darts_ray.search.deriving.edges import (
    cell_names,
    column_mask,
    derive_by_strength,
    keep,
    node_rows,
    primitives,
)
from darts_ray.search.parts import Phase, Progress
from darts_ray.search.step.relaxing import relax
from darts_ray.space import Genotype

if TYPE_CHECKING:
    from darts_ray.search.run import SearchRun

PROJECTION = "projection"


class Projection(ByStrength):
    """Decides on one edge of each kind of cell, then on the edges into one node, and so on.

    Operation round: of a random undecided edge, keep the operation whose removal (p = 0, the
    others as they are) leaves the lowest score. Topology round: of a random node with too many
    incoming edges, drop the edge whose removal leaves the highest score, until as many remain as
    the space keeps. Scores are the accuracy over one pass of the alphas' data (text: minus the
    loss), in training mode and augmented, as in the original code. `none` is no candidate where a
    cell derived from the space cannot have it.

    Args:
        config: criterion and interval.
    """

    def __init__(self, config: DartsPTConfig) -> None:
        self._config = config

    @torch.no_grad()
    def begin_epoch(self, run: SearchRun, phase: Phase, epoch: int) -> dict[str, Any]:
        """Decide every `interval` epochs of the projection phase, and in its last."""
        if phase.name != PROJECTION:
            return {}
        if epoch % self._config.interval and epoch != phase.epochs - 1:
            return {}
        run.supernet.train()
        decisions = [self._decide(run, name) for name in cell_names(run.supernet.space)]
        return {"projection": [decision for decision in decisions if decision]}

    def genotype(self, run: SearchRun) -> Genotype:
        """Return what is decided, and the strongest of the rest."""
        supernet, space = run.supernet, run.supernet.space
        strengths = {}
        for name, s in run.method.relaxation.strength(supernet.alphas, space).items():
            mask = supernet.mask[name]
            decided = mask.sum(-1, keepdim=True) == 1
            strengths[name] = (torch.where(decided, mask.to(s), s) * mask).detach().cpu()
        return derive_by_strength(strengths, space)

    def _decide(self, run: SearchRun, name: str) -> dict[str, Any]:
        mask = run.supernet.mask[name]
        space = run.supernet.space
        present = mask.sum(-1)
        columns = column_mask(space, name, mask)
        choices = present if columns is None else (mask & columns).sum(-1)
        undecided = (choices > 1).nonzero().flatten().tolist()
        if undecided:
            return self._choose_operation(run, name, _draw(undecided))
        most = keep(space, name)
        crowded = [
            rows
            for rows in node_rows(space, name, len(mask))
            if most is not None and int((present[rows] > 0).sum()) > most
        ]
        if crowded:
            return self._drop_edges(run, name, crowded[_draw(range(len(crowded)))])
        return {}

    def _choose_operation(self, run: SearchRun, name: str, row: int) -> dict[str, Any]:
        mask = run.supernet.mask[name]
        space = run.supernet.space
        names = primitives(space, name, len(mask))[row]
        candidates = [
            column
            for column, primitive in enumerate(names)
            if mask[row, column] and (primitive != "none" or keep(space, name) is None)
        ]
        if self._config.criterion == "magnitude":
            strength = run.method.relaxation.strength(run.supernet.alphas, space)[name]
            scores = {column: -float(strength[row, column]) for column in candidates}
        else:
            scores = {column: self._score_without(run, name, row, column) for column in candidates}
        chosen = min(scores, key=scores.__getitem__)  # the first of equal ones
        mask[row] = False
        mask[row, chosen] = True
        return {
            "cell": name,
            "edge": row,
            "chosen": names[chosen],
            "without": {names[column]: score for column, score in scores.items()},
        }

    def _drop_edges(self, run: SearchRun, name: str, rows: Sequence[int]) -> dict[str, Any]:
        mask = run.supernet.mask[name]
        most = keep(run.supernet.space, name)
        assert most is not None
        dropped: list[int] = []
        rounds = []
        while len(present := [row for row in rows if mask[row].any()]) > most:
            if self._config.criterion == "magnitude":
                strength = run.method.relaxation.strength(run.supernet.alphas, run.supernet.space)[
                    name
                ]
                scores = {row: -float(strength[row][mask[row]].max()) for row in present}
            else:
                scores = {row: self._score_without(run, name, row, None) for row in present}
            weakest = max(scores, key=scores.__getitem__)
            mask[weakest] = False
            dropped.append(weakest)
            rounds.append({str(row): score for row, score in scores.items()})
        return {"cell": name, "dropped": dropped, "without": rounds}

    def _score_without(self, run: SearchRun, name: str, row: int, column: int | None) -> float:
        """Return the score of the supernet without one operation, or one edge."""
        mixing = relax(run.method, run.supernet, "eval", Progress(0, 1))
        p = mixing.weights[name].clone()
        if column is None:
            p[..., row, :] = 0
        else:
            p[..., row, column] = 0
        perturbed = replace(mixing, weights={**mixing.weights, name: p})
        return run.batches.score(run.supernet, run.batches.alpha_pass(), _whole(perturbed))


def _whole(mixing: Mixing) -> Mixing:
    """Return a mixing in which every operation runs: what is chosen must not matter here."""
    return replace(mixing, active=None)


def _draw(values: Sequence[int] | Tensor) -> int:
    return int(values[int(torch.randint(len(values), ()))])
