"""What methods with Gumbel noise share: its temperature, and a soft sample."""

from __future__ import annotations

import torch
from torch import Tensor

from darts_ray.search.parts import Progress


def temperature(start: float, end: float, progress: Progress) -> float:
    """Return the linear ramp from `start` in the first epoch to `end` in the last."""
    return start + (end - start) * progress.ramp


def soft_sample(logits: Tensor, tau: float) -> Tensor:
    """Return softmax((logits + g) / tau), g ~ Gumbel, drawn again where it is not finite.

    Args:
        logits: (edges, columns); minus infinity where there is no primitive.
        tau: temperature.
    """
    while True:
        g = -torch.empty_like(logits).exponential_().log()
        if torch.isfinite(g).all():
            return torch.softmax((logits + g) / tau, dim=-1)
