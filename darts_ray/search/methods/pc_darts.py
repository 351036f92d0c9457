"""PC-DARTS (Xu et al., ICLR 2020).

    y_e = shuffle_K([ sum_o p_{e,o} o(x_{:C/K}); x_{C/K:} ]),    p = softmax(alpha)
    x_j = sum_{e into j} b_e y_e,                                b = softmax over e into j of beta
    strength_{e,o} = p_{e,o} * b_e

Operations see the first K-th of the channels only; the betas (1e-3 * N(0, 1), trained with the
alphas) make up for the noise that comes with it. Alphas and betas are first trained after 30 % of
the epochs. The paper's further settings are batch 256, weight_lr 0.1 to 0, alpha_lr 6e-4.

Conv cells whose channels K divides; first order and unrolled. Half of the memory and of the
time of first-order DARTS with K = 4 on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from darts_ray.config.methods import PCDartsConfig
from darts_ray.nn.conv.connections import PartialChannels
from darts_ray.nn.mixing import softmax_mixing
from darts_ray.search.deriving.edges import cell_names
from darts_ray.search.parts import Alphas, Method, Softmax
from darts_ray.search.schedule import with_warmup
from darts_ray.space import SearchSpace


class NormalisedEdges(Softmax):
    """Softmax of the alphas of an edge, and of the betas of a node's edges.

    `softmax_mixing` does both, as soon as there are betas.
    """

    def initial(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return one beta per edge."""
        return {
            f"beta_{name}": 1e-3 * torch.randn(len(alphas[name])).to(alphas[name])
            for name in cell_names(space)
        }

    def strength(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return the product of both."""
        mixing = softmax_mixing(alphas, space)
        b = mixing.edges or {}
        return {name: p * b[name].unsqueeze(-1) for name, p in mixing.weights.items()}

    def shown(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return both, side by side."""
        mixing = softmax_mixing(alphas, space)
        b = {f"beta_{name}": values for name, values in (mixing.edges or {}).items()}
        return {**mixing.weights, **b}


def pc_darts(config: PCDartsConfig) -> Method:
    """Return the method."""
    return Method(
        config.name,
        relaxation=NormalisedEdges(),
        connection=lambda: PartialChannels(config.channels),
        phases=with_warmup(config.warmup),
    )
