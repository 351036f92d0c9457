"""Dropout of recurrent networks: every mask is drawn once per sequence (Gal & Ghahramani 2016)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from darts_ray.errors import ConfigError


@dataclass(frozen=True)
class RecurrentDropout:
    """Dropout probabilities, in [0, 1); the defaults are those of the paper's PTB search.

    Attributes:
        output: on the cell's output sequence, before the decoder.
        hidden: on hidden states and nodes where they enter a weight matrix.
        input: on the cell's input.
        embedding: on embedded words.
        word: whole words of the vocabulary.
    """

    output: float = 0.75
    hidden: float = 0.25
    input: float = 0.75
    embedding: float = 0.2
    word: float = 0.0

    def __post_init__(self) -> None:
        """Check the range."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < 1:
                raise ConfigError(f"dropout.{field.name}: {value!r} is not in [0, 1).")


@dataclass(frozen=True)
class SequenceMasks:
    """The masks of one sequence, scaled by 1 / (1 - p); None stands for no dropout.

    Attributes:
        word: shape (vocabulary, 1), the same words for the whole batch.
        embedding: shape (batch, embedding).
        input: shape (batch, embedding).
        hidden: shape (batch, hidden).
        output: shape (batch, hidden).
    """

    word: Tensor | None = None
    embedding: Tensor | None = None
    input: Tensor | None = None
    hidden: Tensor | None = None
    output: Tensor | None = None


def draw_masks(
    dropout: RecurrentDropout, vocab_size: int, batch_size: int, hidden_dim: int, like: Tensor
) -> SequenceMasks:
    """Draw one sequence's masks from the default generator of a device.

    Order and manner of the draws are those of the original code, so that one seed gives both
    the same masks on a CPU: uniform numbers for the two masks of the cell, `bernoulli_` for
    the others. A probability of 0 draws nothing.

    Args:
        dropout: probabilities.
        vocab_size: rows of the embedding.
        batch_size: sequences side by side.
        hidden_dim: units, equal to the embedding's.
        like: gives device and dtype.
    """
    sequence = (batch_size, hidden_dim)
    return SequenceMasks(
        word=_bernoulli_mask((vocab_size, 1), dropout.word, like),
        embedding=_bernoulli_mask(sequence, dropout.embedding, like),
        input=_uniform_mask(sequence, dropout.input, like),
        hidden=_uniform_mask(sequence, dropout.hidden, like),
        output=_bernoulli_mask(sequence, dropout.output, like),
    )


def apply_mask(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return `values * mask`, or the values where nothing is dropped."""
    return values if mask is None else values * mask


def _bernoulli_mask(shape: tuple[int, int], p: float, like: Tensor) -> Tensor | None:
    return like.new_empty(shape).bernoulli_(1 - p).div_(1 - p) if p else None


def _uniform_mask(shape: tuple[int, int], p: float, like: Tensor) -> Tensor | None:
    if not p:
        return None
    uniform = torch.rand(shape, dtype=like.dtype, device=like.device)
    return uniform.add_(1 - p).floor_().div_(1 - p)
