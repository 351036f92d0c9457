"""Processes that train one network together: who holds which rows, and what they sum up.

`torch.distributed` must have been set up by whoever starts more than one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Rows(NamedTuple):
    """Which rows of a batch a worker holds.

    Randomness per row is drawn for all of them, so that a row has the same whoever holds it.
    """

    num: int
    """Of the whole batch."""

    held: slice
    """Of them, those that are here."""


@dataclass(frozen=True)
class Workers:
    """This process among those that train a network together; by default it is alone.

    Attributes:
        rank: of this process, 0 to world - 1.
        world: number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world > 1

    def rows(self, num: int) -> Rows:
        """Return which rows of a batch of `num` are this worker's: every `world`-th."""
        return Rows(num, slice(self.rank, None, self.world))

    def part(self, first: int, last: int) -> tuple[slice, Rows]:
        """Find this worker's share of the rows `first` to `last - 1` of a batch.

        Returns:
            Which of the rows that it holds lie in that part, and which rows of the part they are.
        """
        begin, end = (max(0, -(-(row - self.rank) // self.world)) for row in (first, last))
        start = self.rank + begin * self.world - first
        return slice(begin, end), Rows(last - first, slice(start, None, self.world))

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all workers; every worker must ask for it, and gets the same."""
        if self.several:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def take_over_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the worker of rank 0."""
        if self.several:
            with torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)


ALONE = Workers()
