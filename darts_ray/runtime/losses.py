"""The losses of an epoch, and the first that is not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from darts_ray.errors import NonFiniteLossError
from darts_ray.runtime.workers import ALONE, Workers


class LossTrace:
    """The losses of one epoch: their weighted mean, and which step was the first non-finite one.

    Losses stay on the device and are looked at every `interval` steps, so that the device
    does not wait for the host after each batch.

    Args:
        name: what the loss is, for the error message, such as `training loss`.
        epoch: 1-based epoch, for the error message.
        interval: steps between two looks.
        workers: who trains or scores together. A step's loss is then the weighted mean of theirs,
            and all of them must add as many; they raise alike.
    """

    def __init__(
        self, name: str, epoch: int, interval: int = 32, workers: Workers = ALONE
    ) -> None:
        self._name = name
        self._epoch = epoch
        self._interval = interval
        self._workers = workers
        self._pending: list[tuple[Tensor, float]] = []
        self._sum = 0.0
        self._weight = 0.0
        self._steps = 0

    def add(self, loss: Tensor, weight: float = 1.0) -> None:
        """Note one step's loss (0-dim).

        Args:
            loss: the loss; it is detached.
            weight: its share in the mean, such as the number of samples.

        Raises:
            NonFiniteLossError: one of the last `interval` losses is NaN or infinite.
        """
        self._pending.append((loss.detach(), weight))
        if len(self._pending) >= self._interval:
            self._collect()

    def mean(self) -> float:
        """Return the weighted mean of all losses so far; NaN before the first.

        Raises:
            NonFiniteLossError: as `add`.
        """
        self._collect()
        return self._sum / self._weight if self._weight else math.nan

    def _collect(self) -> None:
        if not self._pending:
            return
        losses = torch.stack([loss for loss, _ in self._pending]).double()
        weights = [weight for _, weight in self._pending]
        if self._workers.several:
            shares = torch.tensor(weights, dtype=torch.float64).to(losses.device)
            losses, shares = self._workers.total(torch.stack([losses * shares, shares]))
            losses, weights = losses / shares, shares.tolist()
        for value, weight in zip(losses.tolist(), weights, strict=True):
            self._steps += 1
            if not math.isfinite(value):
                raise NonFiniteLossError(
                    f"The {self._name} became {value} in epoch {self._epoch}, step"
                    f" {self._steps}; lower the learning rate, or continue from the last"
                    " checkpoint."
                )
            self._sum += value * weight
            self._weight += weight
        self._pending.clear()
