"""SmoothDARTS (Chen and Hsieh, ICML 2020): weights that bear a change of the mixing weights.

    alphas minimise L_val at p = softmax(alpha), weights L_train at q:
    random:        q = normalise(p + delta),   delta ~ U(-eps_t, eps_t)
    adversarial:   q = normalise(p + delta*),  delta* = argmax L_train(p + delta), |delta| <= eps_t
    eps_t = eps_min + (eps_max - eps_min) * t / E;   normalise: clip to [0, 1], rows sum to 1

delta* comes from a random start and 7 steps of 2 eps / 7 along the sign of the gradient of the
training batch's loss, and is used only if the loss rose. Deviation: the supernet keeps no running
statistics, so the attack sees those of the batch.

Every space; first order and unrolled (the virtual step then is at q). Random costs what
first-order DARTS does, adversarial about three to four times as much.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from darts_ray.config.methods import SDartsConfig
from darts_ray.nn.mixing import Mixing, softmax_mixing
from darts_ray.search.deriving.edges import column_mask
from darts_ray.search.parts import Alphas, Method, Probe, Progress, Role, Softmax
from darts_ray.search.step.ascent import steepest_ascent
from darts_ray.space import SearchSpace


@dataclass(frozen=True)
class Perturbed(Softmax):
    """The softmax, moved for the passes that train weights.

    Attributes:
        config: radii, and how to move.
    """

    config: SDartsConfig

    def mix(
        self,
        alphas: Alphas,
        space: SearchSpace,
        role: Role,
        progress: Progress,
        probe: Probe | None = None,
    ) -> Mixing:
        """Return p, or q for the role `weight`."""
        p = dict(softmax_mixing(alphas, space).weights)
        if role != "weight":
            return Mixing(p)
        c = self.config
        eps = c.epsilon_min + (c.epsilon_max - c.epsilon_min) * progress.share
        delta = {name: torch.empty_like(row).uniform_(-eps, eps) for name, row in p.items()}
        if c.perturbation == "adversarial":
            assert probe is not None
            fixed = {name: row.detach() for name, row in p.items()}
            delta = steepest_ascent(fixed, delta, eps, c.steps, probe)
        for name in p:
            mask = column_mask(space, name, p[name])
            delta[name] = delta[name] if mask is None else delta[name] * mask
        return Mixing({name: _normalise(p[name], delta[name]) for name in p})


def _normalise(p: Tensor, delta: Tensor) -> Tensor:
    q = (p + delta).clamp(0, 1)
    total = q.sum(-1, keepdim=True)
    return torch.where(total > 0, q / total.clamp_min(1e-12), p)


def sdarts(config: SDartsConfig) -> Method:
    """Return the method."""
    return Method(config.name, relaxation=Perturbed(config))
