"""OLES (Jiang et al., NeurIPS 2023): operations that start to overfit are frozen.

For every operation of every edge, c = cos(grad_w L_T, grad_w L_V) in the operation's weights, each
on its batch of the step; where the mean of 20 steps is below 0.4, these weights stay as they are
for good. Alphas are trained as by DARTS.

Deviations from the published code, which is why its threshold may need to be found anew: the
validation gradient is that of the validation batch alone (theirs still holds the training gradient
before it), the cosine is over all weights of an operation, the mean over exactly `interval` steps,
and frozen weights move neither by momentum nor by weight decay.

Conv spaces; first order and unrolled. Nearly twice the time of first-order DARTS: one more pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from darts_ray.config.methods import OlesConfig
from darts_ray.search.parts import Method, WeightStep
from darts_ray.search.step.operations import Slice, cosines, operation_slices


class FreezeOperations:
    """Measures, and freezes what disagrees."""

    def __init__(self, config: OlesConfig) -> None:
        self._config = config
        self._parts: dict[str, list[Slice]] = {}
        self._sums: dict[str, float] = {}
        self._num = 0
        self._frozen: set[str] = set()
        self._kept: list[tuple[Tensor, Tensor]] = []

    def apply(self, step: WeightStep) -> None:
        """Compare the gradients; remember the weights that must not move."""
        self._parts = self._parts or operation_slices(step.supernet, step.weights)
        valid = torch.autograd.grad(
            step.loss(step.valid, step.mixing), list(step.weights), materialize_grads=True
        )
        train = [weight.grad for weight in step.weights if weight.grad is not None]
        for name, value in cosines(self._parts, train, valid).items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._num += 1
        if self._num == self._config.interval:
            low = self._config.threshold * self._num
            self._frozen |= {name for name, total in self._sums.items() if total < low}
            self._sums, self._num = {}, 0
        self._kept = [
            (rows, rows.clone())
            for name in sorted(self._frozen)
            for part in self._parts[name]
            for rows in [part.of(step.weights).detach()]
        ]

    def after(self, step: WeightStep) -> None:
        """Put frozen weights back."""
        for rows, values in self._kept:
            rows.copy_(values)

    def state_dict(self) -> dict[str, Any]:
        """Return sums and what is frozen."""
        return {"sums": dict(self._sums), "num": self._num, "frozen": sorted(self._frozen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from that."""
        self._sums, self._num = dict(state["sums"]), int(state["num"])
        self._frozen = set(state["frozen"])


def oles(config: OlesConfig) -> Method:
    """Return the method."""
    return Method(config.name, weight_rule=lambda: FreezeOperations(config))
