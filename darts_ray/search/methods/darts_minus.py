"""DARTS- (Chu et al., ICLR 2021).

    y_e = sum_o p_{e,o} o(x) + beta_t * x,    beta_t = (E - t) / E,    p = softmax(alpha)

The auxiliary skip takes over what skip connections do for the training of a deep network, so that
they need not win for that reason; it fades out (1 / E in the last epoch) and is no part of the
derived cell. Where an edge has stride 2, x goes through a FactorizedReduce of its own.

Conv cells; first order and unrolled. Costs what first-order DARTS does: one addition per edge.
"""

from __future__ import annotations

from typing import Any

from darts_ray.config.methods import DartsMinusConfig
from darts_ray.nn.conv.chained import connections_of
from darts_ray.nn.conv.connections import AuxiliarySkip
from darts_ray.search.parts import Method, Progress


def darts_minus(config: DartsMinusConfig) -> Method:
    """Return the method."""

    def set_beta(supernet: Any, t: Progress) -> None:
        for skip in connections_of(supernet, AuxiliarySkip):
            skip.beta = config.beta * (1 - t.share)

    return Method(config.name, connection=lambda: AuxiliarySkip(config.beta), set_ramps=set_beta)
