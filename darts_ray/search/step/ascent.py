"""An adversary of the mixing weights: projected gradient ascent (Madry et al., ICLR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from darts_ray.nn.mixing import Mixing
from darts_ray.search.parts import Probe


def steepest_ascent(
    p: dict[str, Tensor], delta: dict[str, Tensor], eps: float, steps: int, probe: Probe
) -> dict[str, Tensor]:
    """Return the perturbation of p that makes a loss large, or none where it did not rise.

        delta <- clip(delta + 2 eps / steps * sign(dL/dp), -eps, eps)

    Args:
        p: mixing weights by cell.
        delta: where to start, within the radius.
        eps: radius, of each entry.
        steps: how many.
        probe: the loss.
    """
    with torch.no_grad():
        before = probe(Mixing(p))
    for _ in range(steps):
        moved = {name: (p[name] + delta[name]).requires_grad_() for name in p}
        gradients = torch.autograd.grad(probe(Mixing(moved)), list(moved.values()))
        for name, g in zip(p, gradients, strict=True):
            delta[name] = (delta[name] + 2 * eps / steps * g.sign()).clamp(-eps, eps)
    with torch.no_grad():
        after = probe(Mixing({name: p[name] + delta[name] for name in p}))
    rose = after > before  # stays on the device
    return {name: torch.where(rose, row, 0) for name, row in delta.items()}
