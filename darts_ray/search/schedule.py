"""Which phase an epoch belongs to, and what follows from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from darts_ray.config import SearchOptimConfig
from darts_ray.errors import ConfigError
from darts_ray.runtime.schedule import cosine
from darts_ray.search.parts import Phase, Progress
from darts_ray.space import SearchSpace


def with_warmup(share: float) -> Callable[[int, SearchSpace], tuple[Phase, ...]]:
    """Return phases of which the first trains no alphas, for `Method.phases`.

    Args:
        share: of the epochs, rounded; PC-DARTS: 15 of 50.
    """

    def phases(epochs: int, space: SearchSpace) -> tuple[Phase, ...]:
        warmup = round(share * epochs)
        return Phase("warm-up", warmup, alpha_step=False), Phase("search", epochs - warmup)

    return phases


@dataclass(frozen=True)
class Position:
    """An epoch's place in the schedule.

    Attributes:
        phase: the epoch's.
        epoch: within the phase, from 0.
        progress: of the ramps. They run over the phases up to the first that begins afresh, and
            stay where they ended.
    """

    phase: Phase
    epoch: int
    progress: Progress

    def weight_lr(self, optim: SearchOptimConfig) -> float:
        """Return the epoch's learning rate: constant, or the cosine over the ramps' epochs."""
        if self.phase.weight_lr is not None:
            return self.phase.weight_lr
        t = self.progress
        return cosine(optim.weight_lr, optim.weight_lr_min, t.epoch, t.epochs)


class Schedule:
    """A search's phases in their order.

    Args:
        phases: at least one epoch in all.

    Raises:
        ConfigError: there is nothing to do.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = tuple(phase for phase in phases if phase.epochs > 0)
        self.epochs = sum(phase.epochs for phase in self.phases)
        if not self.epochs:
            raise ConfigError("method: its phases have no epoch.")
        self._ramped = 0
        for index, phase in enumerate(self.phases):
            if index and phase.resets:
                break
            self._ramped += phase.epochs

    def at(self, epoch: int) -> Position:
        """Return the position of an epoch, counted from 0 over all phases."""
        progress = Progress(min(epoch, self._ramped - 1), self._ramped)
        for phase in self.phases:
            if epoch < phase.epochs:
                return Position(phase, epoch, progress)
            epoch -= phase.epochs
        raise ConfigError(f"epochs: all {self.epochs} epochs of this search are done.")
