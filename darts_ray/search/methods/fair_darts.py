"""FairDARTS (Chu et al., ECCV 2020): operations do not compete, and weak ones are left out.

    p = sigmoid(alpha), alpha starts at 0;   alphas' loss = L_val - 10 * mean((p - 0.5)^2)
    per node the (at most) two edges of largest p, those of p >= 0.85 only

So cells may be sparse, down to nodes without edges, which are zeros. The zero-one loss has no
effect on the weights and is not added there. Before anything has reached the threshold the
genotype holds no edge at all. The paper's further settings are batch 128, weight_lr 0.005,
alpha_lr 3e-3, alpha_betas (0.9, 0.999) and a space without `none`, which is never derived here.

Conv cells; first order and unrolled. Costs what first-order DARTS does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from darts_ray.config.methods import FairDartsConfig
from darts_ray.nn.mixing import Mixing
from darts_ray.search.deriving.by_strength import ByStrength
from darts_ray.search.deriving.edges import cell_names, column_mask
from darts_ray.search.parts import Alphas, Method, Probe, Progress, Role, Softmax
from darts_ray.space import Genotype, SearchSpace
from darts_ray.space.derivation import GenotypeBuilder

if TYPE_CHECKING:
    from darts_ray.search.run import SearchRun


class Sigmoid(Softmax):
    """p = sigmoid(alpha)."""

    def initial(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return zeros: p = 0.5."""
        return {name: torch.zeros_like(alphas[name]) for name in cell_names(space)}

    def mix(
        self,
        alphas: Alphas,
        space: SearchSpace,
        role: Role,
        progress: Progress,
        probe: Probe | None = None,
    ) -> Mixing:
        """Return the sigmoid, whatever the pass is for."""
        return Mixing(self.strength(alphas, space))

    def strength(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return the sigmoid."""
        p = {}
        for name in cell_names(space):
            mask = column_mask(space, name, alphas[name])
            p[name] = torch.sigmoid(alphas[name]) * (1 if mask is None else mask)
        return p


@dataclass
class AboveThreshold(ByStrength):
    """Keeps what is strong enough.

    Attributes:
        threshold: smallest p.
    """

    threshold: float

    def genotype(self, run: SearchRun) -> Genotype:
        """Return the cells of the present alphas."""
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


def fair_darts(config: FairDartsConfig) -> Method:
    """Return the method."""

    def penalty(alphas: Alphas, space: SearchSpace, t: Progress) -> Tensor:
        p = []
        for name in cell_names(space):
            mask = column_mask(space, name, alphas[name])
            p.append(torch.sigmoid(alphas[name] if mask is None else alphas[name][mask]).flatten())
        return -config.weight * (torch.cat(p) - 0.5).square().mean()

    return Method(
        config.name,
        relaxation=Sigmoid(),
        penalty=penalty,
        derivation=lambda: AboveThreshold(config.threshold),
    )
