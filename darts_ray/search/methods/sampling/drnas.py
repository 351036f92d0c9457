"""DrNAS (Chen et al., ICLR 2021): mixing weights drawn from a Dirichlet distribution.

    p_e ~ Dirichlet(c_e),   c = ELU(alpha) + 1,   with the pathwise derivative of the sample
    regulariser kl: alphas' loss + 1e-3 * sum_e KL(Dirichlet(c_e) || Dirichlet(1)), no weight decay
    strength = E[p] = c / sum(c)

One draw serves a forward pass; evaluated at the mean. `channels: K` adds the partial channels of
PC-DARTS without its betas. The progressive search of the paper, which prunes operations and
rebuilds the network in between, is left out.

Every space without partial channels, conv cells with; first order and unrolled. Costs what
first-order DARTS does, and less with partial channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Dirichlet
from torch.nn import functional as F

from darts_ray.config.methods import DrNasConfig
from darts_ray.nn.conv.connections import PartialChannels
from darts_ray.nn.mixing import Mixing
from darts_ray.search.deriving.edges import cell_names, column_mask
from darts_ray.search.methods.sampling.dirichlet import concentrations, divergence
from darts_ray.search.parts import Alphas, Method, Probe, Progress, Role, Softmax
from darts_ray.search.schedule import with_warmup
from darts_ray.space import SearchSpace


class DirichletSample(Softmax):
    """Samples, and their mean."""

    def mix(
        self,
        alphas: Alphas,
        space: SearchSpace,
        role: Role,
        progress: Progress,
        probe: Probe | None = None,
    ) -> Mixing:
        """Return a sample; for an evaluation the mean."""
        if role == "eval":
            return Mixing(self.strength(alphas, space))
        weights = {}
        for name in cell_names(space):
            weights[name] = torch.zeros_like(alphas[name])
            for edges, columns, c in concentrations(alphas[name], space, name):
                weights[name] = weights[name].index_put(
                    (edges[:, None], columns), Dirichlet(c).rsample()
                )
        return Mixing(weights)

    def strength(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return the mean."""
        means = {}
        for name in cell_names(space):
            mask = column_mask(space, name, alphas[name])
            c = F.elu(alphas[name]) + 1
            c = c if mask is None else c * mask
            means[name] = c / c.sum(-1, keepdim=True)
        return means


def drnas(config: DrNasConfig) -> Method:
    """Return the method."""
    kl = config.regulariser == "kl"
    return Method(
        config.name,
        relaxation=DirichletSample(),
        connection=(lambda: PartialChannels(config.channels)) if config.channels > 1 else None,
        penalty=(lambda a, space, t: divergence(a, space, config.kl_weight)) if kl else None,
        alpha_weight_decay=0.0 if kl else None,
        phases=with_warmup(config.warmup),
    )
