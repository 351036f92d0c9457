"""DARTS (Liu, Simonyan and Yang, ICLR 2019).

    p = softmax(alpha) per edge;   alphas minimise L_val, weights L_train;   derive by max p

First order or unrolled; every space. The cost of first-order DARTS is the unit in which the other
methods state theirs.
"""

from __future__ import annotations

from darts_ray.config.methods import DartsConfig
from darts_ray.search.parts import Method


def darts(config: DartsConfig) -> Method:
    """Return the method; every part is the default."""
    return Method(config.name)
