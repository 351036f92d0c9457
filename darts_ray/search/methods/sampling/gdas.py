"""GDAS (Dong and Yang, CVPR 2019): one operation per edge, by a hard Gumbel softmax.

    s = softmax((log_softmax(alpha) + g) / tau_t),   g ~ Gumbel,   tau_t linear from 10 to 0.1
    h = onehot(argmax s),   p = h - stopgrad(s) + s

One draw serves a whole forward pass and all cells of a kind. The gradient of an operation that was
not drawn is, with `unselected: zero`, 0 in p: it does not run, which makes the step fast, and
alphas learn from the drawn operation alone, dL/d_alpha = ds_k/d_alpha * dL/dp_k. With `exact` all
operations run and dL/dp_o is what it would be at weight 0. (The original code adds the scalar p_o
to the feature map, as if every operation that was not drawn had the output 1.)

Evaluated and derived at the largest alphas. The paper's further settings are 250 epochs, weight
decay 5e-4 and Nesterov momentum; the original updates weights before alphas, here alphas come
first.

Every space; first order and unrolled. A fraction of the time and memory of first-order DARTS with
`zero`, the same with `exact`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darts_ray.config.methods import GdasConfig
from darts_ray.nn.mixing import Mixing
from darts_ray.search.deriving.edges import cell_names, real_columns
from darts_ray.search.methods.sampling.gumbel import soft_sample, temperature
from darts_ray.search.parts import Alphas, Method, Probe, Progress, Role, Softmax
from darts_ray.space import SearchSpace


@dataclass(frozen=True)
class HardGumbel(Softmax):
    """One-hot draws with the gradient of the softmax behind them.

    Attributes:
        config: temperatures, and what becomes of the other operations.
    """

    config: GdasConfig

    def mix(
        self,
        alphas: Alphas,
        space: SearchSpace,
        role: Role,
        progress: Progress,
        probe: Probe | None = None,
    ) -> Mixing:
        """Return a draw; for an evaluation the largest alphas."""
        tau = temperature(self.config.tau_max, self.config.tau_min, progress)
        weights = {}
        for name in cell_names(space):
            logits = torch.log_softmax(real_columns(alphas[name], space, name), -1)
            s = torch.softmax(logits, -1) if role == "eval" else soft_sample(logits, tau)
            h = torch.zeros_like(s).scatter(-1, s.argmax(-1, keepdim=True), 1)
            weights[name] = h if role == "eval" else h - s.detach() + s
        if self.config.unselected == "exact":
            return Mixing(weights)
        return Mixing(weights, active=drawn_columns(weights))


def drawn_columns(weights: dict[str, Tensor]) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Return the column of the largest weight of each edge, on the host."""
    return {
        name: tuple((column,) for column in p.argmax(-1).tolist()) for name, p in weights.items()
    }


def gdas(config: GdasConfig) -> Method:
    """Return the method."""
    return Method(config.name, relaxation=HardGumbel(config))
