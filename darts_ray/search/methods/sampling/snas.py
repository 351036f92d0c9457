"""SNAS (Xie et al., ICLR 2019): soft Gumbel samples, alphas and weights on the same batches.

    p = softmax((log alpha + g) / tau_t),   g ~ Gumbel,   tau_t linear from 1 to 0.03
    alpha starts at N(1, 0.01); the derived cell keeps the strongest operation of every edge

Edges whose strongest operation is `none` are left out, so cells may have more or fewer edges than
those of DARTS. Evaluated without noise. Deviations: the alphas step first and the weights after
them on the same batch, instead of both from one backward pass; an alpha below 1e-6 counts as 1e-6,
where the logarithm ends. The paper's further settings are 150 epochs and `drop_path: 0.3`.

Conv cells; first order and unrolled. Costs what first-order DARTS does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darts_ray.config.methods import SnasConfig
from darts_ray.nn.mixing import Mixing
from darts_ray.search.deriving.edges import cell_names, real_columns
from darts_ray.search.deriving.every_edge import EveryEdge
from darts_ray.search.methods.sampling.gumbel import soft_sample, temperature
from darts_ray.search.parts import Alphas, Method, Probe, Progress, Role, Softmax
from darts_ray.space import SearchSpace


@dataclass(frozen=True)
class SoftGumbel(Softmax):
    """Samples of a softmax of log(alpha).

    Attributes:
        config: temperatures.
    """

    config: SnasConfig

    def initial(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return alphas around 1, where their logarithms are around 0."""
        return {
            name: 1 + 0.01 * torch.randn(alphas[name].shape).to(alphas[name])
            for name in cell_names(space)
        }

    def mix(
        self,
        alphas: Alphas,
        space: SearchSpace,
        role: Role,
        progress: Progress,
        probe: Probe | None = None,
    ) -> Mixing:
        """Return a sample; for an evaluation its limit without noise at temperature 1."""
        if role == "eval":
            return Mixing(self.strength(alphas, space))
        tau = temperature(self.config.tau_max, self.config.tau_min, progress)
        logits = {name: _logits(alphas, space, name) for name in cell_names(space)}
        return Mixing({name: soft_sample(row, tau) for name, row in logits.items()})

    def strength(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return softmax(log(alpha)), the shares of the alphas."""
        return {
            name: torch.softmax(_logits(alphas, space, name), -1) for name in cell_names(space)
        }


def _logits(alphas: Alphas, space: SearchSpace, name: str) -> Tensor:
    return real_columns(alphas[name].clamp_min(1e-6).log(), space, name)


def snas(config: SnasConfig) -> Method:
    """Return the method."""
    return Method(
        config.name, relaxation=SoftGumbel(config), derivation=EveryEdge, single_level=True
    )
