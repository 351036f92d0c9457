"""Windows over a text: an endless stream for training, one plain pass for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from darts_ray.errors import CheckpointError, DataError

Batch = tuple[Tensor, Tensor]

# The original code's bounds of a drawn window, in tokens: at least 5, at most bptt + 20.
MIN_LENGTH = 5
MAX_EXCESS = 20


def batchify(tokens: Tensor, batch_size: int) -> Tensor:
    """Cut a text into `batch_size` columns of equal length, leaving out the remainder.

    Args:
        tokens: (num,).
        batch_size: columns.

    Returns:
        (num // batch_size, batch_size); each column is a contiguous piece of text.
    """
    rows = len(tokens) // batch_size
    return tokens[: rows * batch_size].view(batch_size, rows).t().contiguous()


def text_batches(
    tokens: Tensor, batch_size: int, bptt: int, *, device: torch.device
) -> Iterator[Batch]:
    """Yield every prediction of a text once, in windows of `bptt`, for evaluation.

    Yields:
        tokens and targets, both int64 (time, batch); the last window may be shorter.

    Raises:
        DataError: the text has fewer than two tokens per column.
    """
    matrix = _matrix(tokens, batch_size, 2).to(device)
    for row in range(0, len(matrix) - 1, bptt):
        yield _window(matrix, row, bptt)


class TextStream:
    """A seeded, resumable stream of windows over a text.

    Windows follow each other without gaps, so hidden states can be carried from one to the next.
    As in the original code a last window of a single token is left out.

    Args:
        tokens: int64 (num,).
        batch_size: columns read side by side.
        bptt: mean window length in tokens.
        seed: of the window lengths.
        device: where batches are made.
        variable: draw the lengths: mean `bptt`, or half of it with `short_probability`; False:
            always `bptt`.
        short_probability: see `variable`.
        deviation: standard deviation of a length around its mean, in tokens: 0 in search (35 or
            17), 5 in retraining. A length is rounded down and clamped to 5..bptt + 20.

    Raises:
        DataError: the text is too short for one window.
    """

    def __init__(
        self,
        tokens: Tensor,
        batch_size: int,
        *,
        bptt: int,
        seed: int,
        device: torch.device,
        variable: bool,
        short_probability: float = 0.05,
        deviation: float = 0,
    ) -> None:
        self._matrix = _matrix(tokens, batch_size, 3).to(device)
        self._bptt = bptt
        self._seed = seed
        self._variable = variable
        self._short_probability = short_probability
        self._deviation = deviation
        self._pass = 0
        self._row = 0

    def __len__(self) -> int:
        """Return the number of windows in a pass, were all of length `bptt`."""
        return -(-(len(self._matrix) - 2) // self._bptt)

    def epoch(self) -> Iterator[Batch]:
        """Yield one whole pass from the first token; a pass that was begun before is given up.

        Yields:
            tokens and targets (the tokens that follow), both int64 (time, batch).
        """
        if self._row:
            self._wrap()
        while not self._at_end():
            yield self.next()

    def next(self) -> Batch:
        """Return the next window, or the text's first after its last."""
        if self._at_end():
            self._wrap()
        window = _window(self._matrix, self._row, self._length())
        self._row += len(window[0])
        return window

    def state_dict(self) -> dict[str, int]:
        """Return the position; the rest follows from the arguments."""
        return {"pass": self._pass, "row": self._row}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on exactly where a stream with the same arguments was.

        Raises:
            CheckpointError: that stream read a longer text.
        """
        if not 0 <= state["row"] < len(self._matrix):
            raise CheckpointError(
                f"The text stream was at row {state['row']}, but there are {len(self._matrix)} "
                "rows here: resume with the same text and batch size."
            )
        self._pass, self._row = int(state["pass"]), int(state["row"])

    def _at_end(self) -> bool:
        return self._row >= len(self._matrix) - 2

    def _wrap(self) -> None:
        self._pass += 1
        self._row = 0

    def _length(self) -> int:
        """Draw this window's length; it follows from (seed, pass, row)."""
        if not self._variable:
            return self._bptt
        draw = np.random.default_rng((self._seed, self._pass, self._row))
        mean = self._bptt / 2 if draw.random() < self._short_probability else self._bptt
        length = int(draw.normal(mean, self._deviation))
        return min(max(length, min(MIN_LENGTH, self._bptt)), self._bptt + MAX_EXCESS)


def check_length(num_tokens: int, batch_size: int, min_rows: int = 2) -> None:
    """Insist that a text fills so many rows of a batch; two are needed for one prediction.

    Raises:
        DataError: it is too short.
    """
    if num_tokens < min_rows * batch_size:
        raise DataError(
            f"A text of {num_tokens} tokens is too short for a batch of {batch_size}: it takes "
            f"at least {min_rows} tokens per column. Lower batch_size or use more text."
        )


def _matrix(tokens: Tensor, batch_size: int, min_rows: int) -> Tensor:
    check_length(len(tokens), batch_size, min_rows)
    return batchify(tokens, batch_size)


def _window(matrix: Tensor, row: int, length: int) -> Batch:
    length = min(length, len(matrix) - 1 - row)
    return matrix[row : row + length], matrix[row + 1 : row + 1 + length]
