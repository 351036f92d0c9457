"""One epoch of a search while it runs: its batches and what its steps measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch

from darts_ray.nn.supernet import Batch
from darts_ray.runtime.losses import LossTrace
from darts_ray.search.batches import StepBatches
from darts_ray.search.schedule import Position
from darts_ray.search.step.bilevel import StepResult


class Epoch:
    """Hands out batches and gathers measurements.

    Attributes:
        position: in the schedule.
        weight_lr: of this epoch.
        steps_done: so far.
        last_valid: the alphas' batch that was drawn last.
        metrics: measured before the first step, such as what a derivation decided.

    Args:
        number: counted from 1, for messages.
        position: in the schedule.
        weight_lr: of this epoch.
        batches: of this epoch.
        device: looking at a loss makes a GPU wait; a CPU has it at hand.
    """

    def __init__(
        self,
        number: int,
        position: Position,
        weight_lr: float,
        batches: Iterator[StepBatches],
        device: torch.device,
    ) -> None:
        self.position = position
        self.weight_lr = weight_lr
        self.steps_done = 0
        self.last_valid: Batch | None = None
        self.metrics: dict[str, Any] = {}
        self.started = time.perf_counter()
        self._batches = batches
        interval = 1 if device.type == "cpu" else 32
        self._train, self._valid, self._norms = (
            LossTrace(name, number, interval)
            for name in ("training loss", "validation loss of the alpha step", "gradient norm")
        )
        self._samples = 0
        self._training_since: float | None = None

    def next(self) -> StepBatches | None:
        """Return the batches of the next step; None after the last."""
        if self._training_since is None:
            self._training_since = time.perf_counter()
        if not self.position.phase.trains_weights:
            return None
        return next(self._batches, None)

    def add(self, result: StepResult, batches: StepBatches) -> None:
        """Take note of a step.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite.
        """
        # the alpha step comes first, so its loss is the first to show that all is lost
        if result.valid_loss is not None:
            self._valid.add(result.valid_loss)
        self._train.add(result.train_loss, batches.samples)
        self._norms.add(result.grad_norm)
        self._samples += batches.samples
        self.steps_done += 1
        self.last_valid = batches.valid

    def summary(self) -> dict[str, Any]:
        """Return the means of all steps, as plain values; nothing of what was not trained."""
        if not self.steps_done:
            return {}
        valid = self._valid.mean()
        metrics = {
            "valid_loss": valid,
            "train_loss": self._train.mean(),
            "grad_norm": self._norms.mean(),
            "weight_lr": self.weight_lr,
        }
        if not self.position.phase.alpha_step:
            del metrics["valid_loss"]
        # the means have waited for the device, so the clock is right
        assert self._training_since is not None
        metrics["samples_per_second"] = self._samples / (
            time.perf_counter() - self._training_since
        )
        return metrics
