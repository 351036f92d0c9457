"""Training a derived recurrent network on text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import RetrainConfig
from darts_ray.config.retrain import RecurrentNetworkConfig
from darts_ray.data import TextData, TextStream, text_batches
from darts_ray.nn import Batch, RecurrentNetwork
from darts_ray.runtime.losses import LossTrace
from darts_ray.runtime.precision import autocast
from darts_ray.train.evaluation import EvaluationSettings, score_text
from darts_ray.train.schedules import length_factor
from darts_ray.train.tasks.task import PartLoss


class TextTask:
    """Language modelling on sequences of varying length, with TAR in the weights' loss.

    Hidden states start from zero each epoch and are carried, detached, from one sequence to the
    next.

    Args:
        config: the retraining.
        data: a text; its test part is not touched here.
        network: on `device`.
        device: where batches are made.

    Raises:
        DataError: a part of the text is too short for its batch size.
    """

    rolls_back = True

    def __init__(
        self,
        config: RetrainConfig,
        data: TextData,
        network: RecurrentNetwork,
        device: torch.device,
    ) -> None:
        assert isinstance(config.network, RecurrentNetworkConfig)
        self._network = network
        self._config = config
        self._bptt = config.network.bptt
        self._valid = data.valid
        self._num_parts = config.optim.accumulate
        self._stream = TextStream(
            data.train,
            config.batch_size * self._num_parts,
            bptt=self._bptt,
            seed=config.seed,
            device=device,
            variable=True,
            short_probability=config.network.short_sequence_probability,
            deviation=config.network.sequence_deviation,
        )
        self._settings = EvaluationSettings.of_validation(config, device)
        # a validation text that is too short should be told before an epoch is spent
        next(text_batches(data.valid, self._settings.batch_size, self._bptt, device=device))
        self._states: list[Tensor] = []

    def __len__(self) -> int:
        """Return the number of sequences per epoch, were all of mean length."""
        return len(self._stream)

    def start_epoch(self, epoch: int, epochs: int) -> dict[str, float]:
        """Zero the hidden states."""
        size = self._config.batch_size
        self._states = [self._network.initial_state(size) for _ in range(self._num_parts)]
        return {}

    def batches(self) -> Iterator[Batch]:
        """Yield one pass over the training text."""
        return self._stream.epoch()

    def size(self, batch: Batch) -> int:
        """Return the number of predicted tokens."""
        return batch[1].numel()

    def rate_factor(self, batch: Batch) -> float:
        """Return sequence length / bptt."""
        return length_factor(len(batch[0]), self._bptt)

    def losses(self, batch: Batch) -> Iterator[PartLoss]:
        """Yield the regularised loss of each part of the columns; each part has its own state."""
        tokens, targets = batch
        parts = zip(
            tokens.chunk(self._num_parts, dim=1),
            targets.chunk(self._num_parts, dim=1),
            strict=True,
        )
        for number, part in enumerate(parts):
            with autocast(self._settings.device, self._config.precision):
                loss, state = self._network.stateful_loss(
                    part, self._states[number], regularised=True
                )
            self._states[number] = state
            yield PartLoss(loss, 1 / self._num_parts)

    def training_metrics(self) -> dict[str, float]:
        """Return nothing: the loss says it all."""
        return {}

    def validate(self, epoch: int) -> dict[str, float]:
        """Score the validation part."""
        trace = LossTrace("validation loss", epoch)
        return score_text(self._network, self._valid, self._settings, "validation", trace)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data; hidden states do not outlive an epoch."""
        return dict(self._stream.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._stream.load_state_dict(state)
