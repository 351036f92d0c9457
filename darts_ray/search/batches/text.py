"""Text: the training tokens for the weights, the validation tokens for the alphas."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch

from darts_ray.config import RecurrentSupernetConfig, SearchConfig
from darts_ray.data import TextData, TextStream, text_batches
from darts_ray.errors import ConfigError, DataError
from darts_ray.nn import RecurrentSupernet
from darts_ray.nn.mixing import Mixing
from darts_ray.nn.supernet import Batch, State
from darts_ray.runtime.precision import autocast
from darts_ray.search.batches.stream import StepBatches, check_range


class TextBatches:
    """Text: the training tokens for the weights, the validation tokens for the alphas."""

    def __init__(
        self, config: SearchConfig, data: TextData, device: torch.device, seeds: list[int]
    ) -> None:
        assert isinstance(config.network, RecurrentSupernetConfig)
        self._config = config
        self._data = data
        self._device = device
        self._bptt = config.network.bptt
        self._eval_batch_size = config.eval_batch_size or config.batch_size
        for name, tokens in (("training", data.train), ("validation", data.valid)):
            check_range(f"the {name} text", tokens, data.info.vocab_size, "the vocabulary has")
        for name in ("batch_size", "eval_batch_size"):
            if (getattr(config, name) or config.batch_size) < 2:
                raise ConfigError(
                    f"{name}: at least 2; the cell normalises with the statistics of its batch."
                )
        if len(data.valid) < 2 * self._eval_batch_size:
            raise DataError(
                f"eval_batch_size: {self._eval_batch_size} columns need at least two of the"
                f" {len(data.valid)} validation tokens each; lower it or use more text."
            )
        self._weights = TextStream(
            data.train,
            config.batch_size,
            bptt=self._bptt,
            seed=seeds[0],
            device=device,
            variable=True,
            short_probability=config.network.short_sequence_probability,
        )
        self._alphas = TextStream(
            data.valid,
            config.batch_size,
            bptt=self._bptt,
            seed=seeds[1],
            device=device,
            variable=False,
        )

    def __len__(self) -> int:
        """Return the number of steps in an epoch, were all windows of mean length."""
        return min(len(self._weights), self._config.max_steps or len(self._weights))

    def epoch(self) -> Iterator[StepBatches]:
        """Yield one pass over the training text; the learning rate follows the length."""
        for batch in islice(self._weights.epoch(), self._config.max_steps):
            length = len(batch[1])
            yield StepBatches(batch, self._alphas.next(), length / self._bptt, batch[1].numel())

    @torch.no_grad()
    def evaluate(
        self, supernet: RecurrentSupernet, mixing: Mixing | None = None
    ) -> dict[str, float]:
        """Return loss per token and perplexity on the validation text, hidden states carried.

        Deliberate correction: the sum of losses is divided by the number of scored tokens, not
        by the length of the text (10).
        """
        mean = self._mean_loss(supernet, self.evaluation_batches(), mixing)
        # a float holds e^709; an untrained network may be worse
        return {"validation_loss": mean, "validation_perplexity": math.exp(min(mean, 709.0))}

    @torch.no_grad()
    def score(
        self, supernet: RecurrentSupernet, batches: Iterable[Batch], mixing: Mixing | None
    ) -> float:
        """Return minus the loss per token on successive windows."""
        return -self._mean_loss(supernet, batches, mixing)

    def alpha_pass(self) -> Iterator[Batch]:
        """Yield as many windows of the alphas' stream as the validation text has."""
        for _ in range(len(self._alphas)):
            yield self._alphas.next()

    def erase(self, probability: float) -> None:
        """Do nothing: there is nothing to erase in text."""

    def _mean_loss(
        self, supernet: RecurrentSupernet, batches: Iterable[Batch], mixing: Mixing | None
    ) -> float:
        state: State = None
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        num_scored = 0
        for batch in batches:
            if state is None:
                state = supernet.initial_state(batch[1].shape[-1])
            with autocast(self._device, self._config.precision):
                loss, state = supernet.stateful_loss(batch, state, mixing=mixing)
            total += loss.double() * batch[1].numel()
            num_scored += batch[1].numel()
        return float(total) / num_scored

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of both streams."""
        return {"weights": self._weights.state_dict(), "alphas": self._alphas.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those positions."""
        self._weights.load_state_dict(state["weights"])
        self._alphas.load_state_dict(state["alphas"])

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield the validation text, window by window."""
        return text_batches(
            self._data.valid, self._eval_batch_size, self._bptt, device=self._device
        )
