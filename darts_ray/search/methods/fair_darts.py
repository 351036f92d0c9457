"""FairDARTS (Chu et al., ECCV 2020): operations do not compete, and weak ones are left out.

    p = sigmoid(alpha), alpha starts at 0;   alphas' loss = L_val - 10 * mean((p - 0.5)^2)
    per node the (at most) two edges of largest p, those of p >= 0.85 only

So cells may be sparse, down to nodes without edges, which are zeros; where nothing has reached the
threshold the cell holds its strongest edge alone, or there would be no network. The zero-one loss
has no effect on the weights and is not added there. The paper's further settings are batch 128,
weight_lr 0.005, alpha_lr 3e-3, alpha_betas (0.9, 0.999) and a space without `none`, which is never
derived here.

Conv cells; first order and unrolled. Costs what first-order DARTS does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from darts_ray.config.methods import FairDartsConfig
from darts_ray.nn.mixing import Mixing
from darts_ray.search.deriving.above_threshold import AboveThreshold
from darts_ray.search.deriving.edges import cell_names, column_mask
from darts_ray.search.parts import Alphas, Method, Probe, Progress, Role, Softmax
from darts_ray.space import SearchSpace


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
