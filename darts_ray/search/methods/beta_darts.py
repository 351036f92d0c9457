"""beta-DARTS (Ye et al., CVPR 2022): the largest alphas are held back.

    alphas' loss = L_val + lambda_t * mean_e logsumexp_o(alpha_{e,o}),   lambda_t = 50 * t / E

Its gradient is lambda_t * softmax(alpha) / number of edges. The published schedule is 0 to 50 over
the 100 epochs of NAS-Bench-201; for the 50 epochs of the space of DARTS the code has none, and
`weight` is where it leads to after any number of epochs. The mean is over the edges of all cells.

Every space; first order and unrolled. Costs what first-order DARTS does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from darts_ray.config.methods import BetaDartsConfig
from darts_ray.search.deriving.edges import cell_names, real_columns
from darts_ray.search.parts import Alphas, Method, Progress
from darts_ray.space import SearchSpace


def beta_darts(config: BetaDartsConfig) -> Method:
    """Return the method."""

    def penalty(alphas: Alphas, space: SearchSpace, t: Progress) -> Tensor:
        rows = [
            torch.logsumexp(real_columns(alphas[name], space, name), dim=-1)
            for name in cell_names(space)
        ]
        return config.weight * t.share * torch.cat(rows).mean()

    return Method(config.name, penalty=penalty)
