"""Which weights belong to which operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Slice(NamedTuple):
    """Some rows of a parameter, along its first dimension."""

    weight: int
    """The parameter's place among the weights."""

    start: int
    num: int

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """Return the view of these rows, of weights or of what is laid out as they are."""
        return tensors[self.weight][self.start : self.start + self.num]


def operation_slices(supernet: Any, weights: Sequence[Tensor]) -> dict[str, list[Slice]]:
    """Return what holds each operation's weights, by cell, edge and column.

    Args:
        supernet: a conv supernet, which stores the weights of several edges together.
        weights: all of its parameters.
    """
    places = {id(weight): place for place, weight in enumerate(weights)}
    operations: dict[str, list[Slice]] = {}
    for name, view in supernet.plain_layout():
        head, found, tail = name.partition(".ops.")
        if found:
            base = view if view._base is None else view._base
            start = (view.storage_offset() - base.storage_offset()) // base.stride(0)
            operation = f"{head}.{tail.partition('.')[0]}"
            operations.setdefault(operation, []).append(Slice(places[id(base)], start, len(view)))
    return operations


def cosines(
    operations: Mapping[str, Sequence[Slice]], one: Sequence[Tensor], other: Sequence[Tensor]
) -> dict[str, float]:
    """Return the cosine between two gradients of all weights, operation by operation."""
    products = []
    for slices in operations.values():
        a, b = (torch.cat([part.of(side).flatten() for part in slices]) for side in (one, other))
        products.append(torch.cosine_similarity(a, b, dim=0))
    return dict(zip(operations, torch.stack(products).tolist(), strict=True))  # waits only once
