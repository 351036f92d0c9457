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

_Part = tuple[int, int, int]
"""A slice of a parameter: its place among the weights, first row, number of rows."""


class FreezeOperations:
    """Measures and freezes.

    Args:
        config: threshold and interval.
    """

    def __init__(self, config: OlesConfig) -> None:
        self._config = config
        self._parts: dict[str, list[_Part]] = {}
        self._sums: dict[str, float] = {}
        self._num = 0
        self._frozen: set[str] = set()
        self._kept: list[tuple[Tensor, Tensor]] = []

    def apply(self, step: WeightStep) -> None:
        """Compare the gradients; remember the weights that must not move."""
        self._parts = self._parts or _operations(step)
        valid = torch.autograd.grad(
            step.loss(step.valid, step.mixing), list(step.weights), materialize_grads=True
        )
        names, products = list(self._parts), []
        for parts in self._parts.values():
            pairs = [
                (_rows(step.weights[i].grad, start, num), valid[i][start : start + num])
                for i, start, num in parts
            ]
            a, b = (
                torch.cat([part.flatten() for part in side]) for side in zip(*pairs, strict=True)
            )
            products.append(torch.cosine_similarity(a, b, dim=0))
        for name, value in zip(names, torch.stack(products).tolist(), strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._num += 1
        if self._num == self._config.interval:
            low = self._config.threshold * self._num
            self._frozen |= {name for name, total in self._sums.items() if total < low}
            self._sums, self._num = {}, 0
        self._kept = [
            (rows, rows.clone())
            for name in sorted(self._frozen)
            for i, start, num in self._parts[name]
            for rows in [step.weights[i].detach()[start : start + num]]
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


def _operations(step: WeightStep) -> dict[str, list[_Part]]:
    """Return the slices that hold each operation's weights, by cell, edge and column."""
    places = {id(weight): place for place, weight in enumerate(step.weights)}
    operations: dict[str, list[_Part]] = {}
    for name, view in step.supernet.plain_layout():
        head, found, tail = name.partition(".ops.")
        if found:
            base = view if view._base is None else view._base
            start = (view.storage_offset() - base.storage_offset()) // base.stride(0)
            operation = f"{head}.{tail.partition('.')[0]}"
            operations.setdefault(operation, []).append((places[id(base)], start, len(view)))
    return operations


def _rows(gradient: Tensor | None, start: int, num: int) -> Tensor:
    assert gradient is not None
    return gradient[start : start + num]


def oles(config: OlesConfig) -> Method:
    """Return the method."""
    return Method(config.name, weight_rule=lambda: FreezeOperations(config))
