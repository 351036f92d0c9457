"""What training on images and on text have in common, as seen by the training loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from darts_ray.nn import Batch


class PartLoss(NamedTuple):
    """The mean loss of one part of a batch, with its graph, and the part's share of the batch."""

    loss: Tensor
    share: float


class Task(Protocol):
    """A network together with the data that trains it, both on one device.

    Attributes:
        rolls_back: whether a non-finite loss returns to the best weights instead of failing.
    """

    rolls_back: bool

    def __len__(self) -> int:
        """Return the number of batches per epoch; where lengths are drawn, about that many."""

    def start_epoch(self, epoch: int, epochs: int) -> dict[str, float]:
        """Prepare an epoch (counted from 0) and return what is scheduled, by metric name."""

    def batches(self) -> Iterator[Batch]:
        """Yield one epoch's batches; each makes one optimiser step."""

    def size(self, batch: Batch) -> int:
        """Return how many samples (images, tokens) a batch trains on."""

    def rate_factor(self, batch: Batch) -> float:
        """Return what the learning rate is multiplied by for this batch."""

    def losses(self, batch: Batch) -> Iterator[PartLoss]:
        """Yield the losses of the parts that `accumulate` cuts a batch into; shares sum to 1.

        The caller runs each part's backward pass before it asks for the next, so only one
        part's activations are held at a time.
        """

    def training_metrics(self) -> dict[str, float]:
        """Return metrics of the epoch's training beside the loss."""

    def validate(self, epoch: int) -> dict[str, float]:
        """Score the held-out part; empty when there is none.

        Args:
            epoch: counted from 1, for error messages.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the data."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
