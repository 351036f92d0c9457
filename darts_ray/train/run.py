"""A whole retraining as resumable epochs: one loop for images and for text."""

from __future__ import annotations

import copy
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch

from darts_ray.config import RetrainConfig
from darts_ray.data import ImageData, TextData, check_length
from darts_ray.errors import CheckpointError, NonFiniteLossError
from darts_ray.runtime.device import resolve_device
from darts_ray.runtime.losses import LossTrace
from darts_ray.runtime.memory import peak_memory_bytes, reset_peak_memory
from darts_ray.runtime.randomness import OwnRandomness, deterministic
from darts_ray.runtime.workers import ALONE, Workers
from darts_ray.train.build import build_network, describe_network, make_task
from darts_ray.train.checkpoint import save_checkpoint
from darts_ray.train.convergence import Convergence
from darts_ray.train.evaluation import EvaluationSettings, evaluate_network
from darts_ray.train.parallel.synchronised_norm import synchronise_norms
from darts_ray.train.predictions import Deployed, Predictions
from darts_ray.train.same_data import check_same_data, split_settings
from darts_ray.train.schedules import learning_rate
from darts_ray.train.weights import Weights

_log = logging.getLogger(__name__)

OnStep = Callable[[int, int], None]


class RetrainRun:
    """Trains a derived network from scratch, epoch by epoch, and tests it once.

    Weights, metrics and random numbers follow from configuration and data alone: the run keeps
    its own random state, so it and whatever else runs in the process cannot disturb each other.
    An interrupted and resumed run equals an uninterrupted one bit for bit (on a CPU; on a GPU with
    `deterministic: true`).

    Args:
        config: the retraining.
        data: what `darts_ray.data.open_data(config.data)` returns.
        device: default: the one that the configuration names.
        workers: who trains together, one of these runs in each process: they compute the same,
            each with its rows of every batch, and go through epochs and states in step. Only the
            first one looks at the test set.

    Attributes:
        network: the derived network, on its device; with averaged SGD it holds the latest
            weights, not their mean.
        epochs: the most epochs there will be.
        epochs_done: epochs completed.
        test_metrics: what `test` measured, once it has.
        test_predictions: of images, what it saw: see `Predictions.collected`.

    Raises:
        ConfigError: network and images do not fit.
        DataError: a part of the data is smaller than a batch; or with `test_at_end` there is no
            test set.
        ResourceError: there is no such device.
    """

    def __init__(
        self,
        config: RetrainConfig,
        data: ImageData | TextData,
        device: torch.device | None = None,
        workers: Workers = ALONE,
    ) -> None:
        num_test = data.check_test() if config.test_at_end and workers.rank == 0 else None
        self.config = config
        self.device = device or resolve_device(config.device)
        self.epochs = config.epochs
        self.epochs_done = 0
        self.test_metrics: dict[str, float] | None = None
        self.test_predictions: dict[str, torch.Tensor] = {}
        self._data = data
        self._workers = workers
        self._optim = config.optim
        self._test_opened = False
        self._rng = OwnRandomness(config.seed, self.device)
        with self._rng.used():
            # initialised on the CPU, so a seed means the same network on every device
            self.network = build_network(config, data.info).to(self.device)
            if workers.several and config.sync_batch_norm:
                synchronise_norms(self.network)
            self._task = make_task(config, data, self.network, self.device, workers)
        if num_test is not None and isinstance(data, TextData):
            # what would fail after the last epoch is told before the first
            check_length(num_test, EvaluationSettings.of_test(config, self.device).batch_size)
        self._weights = Weights(self.network, config.optim)
        self._convergence = Convergence(self._optim.asgd_patience, self._optim.stop_patience)
        self._best: dict[str, Any] | None = None
        self._rollbacks = 0

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train: the last epoch is done, or no gain is left."""
        return self.epochs_done >= self.epochs or self._convergence.over

    def describe(self) -> dict[str, int]:
        """Return `num_parameters` (no auxiliary head) and `multiply_adds` per image or token."""
        return describe_network(self.network, self._data.info)

    def run_epoch(self, on_step: OnStep | None = None) -> dict[str, Any]:
        """Train for one epoch, then score the held-out part.

        Args:
            on_step: called with (steps done, steps in this epoch) after each optimiser step.

        Returns:
            `epoch` (completed epochs), `lr`, `train_loss` (the loss that is minimised, with
            auxiliary head, label smoothing and TAR), `seconds`, `samples_per_second` of training
            (images or tokens), `peak_memory_bytes`; images: `drop_path`, `train_accuracy`; with
            a held-out part `validation_loss` and `validation_accuracy`, `validation_top5` or
            `validation_perplexity`; text: `averaging` (whether the next epoch averages) and
            `rolled_back`, 0 or 1. A rolled back epoch has the best weights' validation metrics.

        Raises:
            NonFiniteLossError: a loss or gradient is NaN or infinite; text returns to the best
                weights instead, as long as there are some and `max_rollbacks` allows.
        """
        if self.finished:
            raise RuntimeError(f"This retraining is finished after {self.epochs_done} epochs.")
        started = time.perf_counter()
        reset_peak_memory(self.device)
        metrics: dict[str, Any] = {"epoch": self.epochs_done + 1}
        with self._rng.used(), deterministic(self.config.deterministic):
            try:
                done = {**metrics, **self._train(on_step)}
                done |= self._validate()
                self._take_note(done)
                metrics = done
            except NonFiniteLossError as error:
                metrics |= self._roll_back(error)
        self.epochs_done += 1
        if self._task.rolls_back:
            metrics |= {"averaging": float(self._weights.average is not None)}
        metrics["seconds"] = time.perf_counter() - started
        metrics["peak_memory_bytes"] = peak_memory_bytes(self.device)
        return metrics

    def test(self, deployed: Deployed | None = None) -> dict[str, float]:
        """Score the last weights (averaged SGD: their mean) on the test set, once.

        Args:
            deployed: of images, a file made of these weights, which predicts in the same pass.

        Returns:
            `test_loss` and `test_accuracy`, `test_top5` or `test_perplexity`. A run restored
            from a state that holds them returns them without opening the test set again.

        Raises:
            RuntimeError: the training is not finished, or this run has opened the test set.
        """
        if not self.finished:
            raise RuntimeError(
                f"The test set is read after the last epoch only; {self.epochs_done} of"
                f" {self.epochs} are done."
            )
        if self._test_opened:
            raise RuntimeError("The test set has been read; the result is in test_metrics.")
        if self.test_metrics is None:
            seen = Predictions(deployed)
            with self._weights.scored(), deterministic(self.config.deterministic):
                self.test_metrics = evaluate_network(
                    self.network, self.config, self._data, device=self.device, predictions=seen
                )
            self.test_predictions, self._test_opened = seen.collected(), True
        return dict(self.test_metrics)

    def save(self, path: str | Path) -> None:
        """Write the deployable network: see `darts_ray.train.save_checkpoint`."""
        with self._weights.scored():
            save_checkpoint(
                path, self.network, self.config, self._data.info, self.test_metrics or {}
            )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a later `load_state_dict` needs to go on bit for bit.

        Plain values and tensors that load with `weights_only=True`; a copy, as of `SearchRun`.
        """
        return copy.deepcopy(self._live_state())

    def _live_state(self) -> dict[str, Any]:
        return {
            "epochs_done": self.epochs_done,
            "fingerprint": self._data.info.fingerprint,
            "split": split_settings(self.config),
            **self._weights.state_dict(),
            "convergence": self._convergence.state_dict(),
            "best": self._best,
            "rollbacks": self._rollbacks,
            "data": self._task.state_dict(),
            "rng": self._rng.state,
            "test_metrics": self.test_metrics,
            "test_predictions": self.test_predictions,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; hyperparameters are this run's configuration's.

        Raises:
            CheckpointError: the state is incomplete, or belongs to other data or another
                network.
        """
        try:
            check_same_data(state, self.config, self._data.info)
            self._weights.load_state_dict(state)
            self._convergence.load_state_dict(state["convergence"])
            self._best = copy.deepcopy(state["best"])
            self._rollbacks = int(state["rollbacks"])
            self._task.load_state_dict(state["data"])
            self._rng.state = dict(state["rng"])
            self.test_metrics = state["test_metrics"]
            self.test_predictions = dict(state.get("test_predictions", {}))  # not in older states
            self.epochs_done = int(state["epochs_done"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"The checkpoint does not fit this retraining: {error}"
            ) from error

    def _train(self, on_step: OnStep | None) -> dict[str, float]:
        """Run one epoch's optimiser steps."""
        task = self._task
        rate = learning_rate(self._optim, self.epochs_done, self.epochs)
        scheduled = task.start_epoch(self.epochs_done, self.epochs)
        number, workers = self.epochs_done + 1, self._workers
        trace = LossTrace("training loss or its gradient", number, workers=workers)
        started = time.perf_counter()
        num_samples = 0
        num_steps = min(len(task), self.config.max_steps or len(task))
        self.network.train()
        batches = itertools.islice(task.batches(), self.config.max_steps)
        for step, batch in enumerate(batches, start=1):
            self._weights.optimizer.zero_grad()
            shares = []
            for part in task.losses(batch):
                torch.autograd.backward(part.loss * part.share)
                shares.append(part.loss.detach() * part.share)
            loss = reduce(add, shares)
            norm = self._weights.step(rate * task.rate_factor(batch))
            size = task.size(batch)
            num_samples += size
            trace.add(loss + 0 * norm, weight=size)  # NaN where the norm is NaN or infinite
            if on_step is not None:
                on_step(step, max(step, num_steps))
        train_loss = trace.mean()  # waits for the device
        seconds = time.perf_counter() - started
        # what the first one has seen counts, as in DistributedDataParallel
        workers.take_over_first(self.network.buffers())
        return {
            "lr": rate,
            **scheduled,
            "train_loss": train_loss,
            **task.training_metrics(),
            "samples_per_second": num_samples / seconds,
        }

    def _validate(self) -> dict[str, float]:
        with self._weights.scored():
            return self._task.validate(self.epochs_done + 1)

    def _take_note(self, metrics: dict[str, Any]) -> None:
        """Text: remember the best weights and begin to average when it is time."""
        if not self._task.rolls_back:
            return
        self._rollbacks = 0
        metrics["rolled_back"] = 0.0
        if self._convergence.add(metrics["validation_loss"]):
            self._best = copy.deepcopy(self._weights.state_dict())
        if self._convergence.averaging and self._weights.average is None:
            _log.info("Averaging the weights from epoch %d on.", self.epochs_done + 2)
            self._weights.begin_averaging()

    def _roll_back(self, error: NonFiniteLossError) -> dict[str, float]:
        """Text: return to the best weights. As in the original, random numbers go on, not back."""
        if not self._task.rolls_back:
            raise error
        if self._best is None or self._rollbacks >= self._optim.max_rollbacks:
            reason = "no epoch before it was finite"
            if self._best is not None:
                reason = f"{self._rollbacks} returns to the best weights in a row did not help"
            raise NonFiniteLossError(f"{error} Training ends: {reason}.") from error
        _log.warning("%s Returning to the best weights so far.", error)
        self._rollbacks += 1
        self._weights.load_state_dict(self._best)
        self._convergence.averaging = self._weights.average is not None
        self._convergence.add_failure()
        rate = learning_rate(self._optim, self.epochs_done, self.epochs)
        return {"lr": rate, "rolled_back": 1.0, **self._validate()}
