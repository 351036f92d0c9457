"""What a search sees of its data, whatever kind they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from darts_ray.errors import DataError
from darts_ray.nn.mixing import Mixing
from darts_ray.nn.supernet import Batch


@dataclass(frozen=True)
class StepBatches:
    """The batches of one step.

    Attributes:
        train: for the weights, and the virtual step.
        valid: for the alphas.
        lr_scale: factor on the scheduled learning rate; text scales with the window's length.
        samples: images or tokens in `train`.
    """

    train: Batch
    valid: Batch
    lr_scale: float
    samples: int


class SearchBatches(Protocol):
    """Source of a search's batches."""

    def __len__(self) -> int:
        """Return the steps of an epoch; for text, were all windows of mean length."""

    def epoch(self) -> Iterator[StepBatches]:
        """Yield the batches of one epoch."""

    def evaluate(self, supernet: Any, mixing: Mixing | None = None) -> dict[str, float]:
        """Return the validation metrics of a supernet in evaluation mode.

        Args:
            supernet: to be evaluated.
            mixing: weights of primitives and edges; default: the supernet's own.
        """

    def score(self, supernet: Any, batches: Iterable[Batch], mixing: Mixing | None) -> float:
        """Return how good a supernet is on some batches, in its present mode; more is better.

        Accuracy of images, minus the loss per token of text.
        """

    def alpha_pass(self) -> Iterator[Batch]:
        """Yield as many augmented batches for the alphas as one pass over their data has."""

    def evaluation_batches(self) -> Iterator[Batch]:
        """Yield the validation data once, always the same, without augmentation."""

    def erase(self, probability: float) -> None:
        """From now on erase a square of training images with this probability."""

    def state_dict(self) -> dict[str, Any]:
        """Return the positions of the streams."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those positions."""


def check_range(name: str, values: Tensor, num: int, what: str) -> None:
    """Check that labels or tokens are from 0 to `num - 1`.

    Raises:
        DataError: they are not.
    """
    low, high = (int(value) for value in values.aminmax())
    if low < 0 or high >= num:
        raise DataError(
            f"In {name} there are numbers from {low} to {high}, but {what} {num}; they must be"
            f" from 0 to {num - 1}."
        )
