"""What recurrent supernets and derived networks share: embedding, dropout, decoder and losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.errors import ConfigError, DataError
from darts_ray.nn.recurrent.cells import INIT_RANGE, RecurrentCell
from darts_ray.nn.recurrent.dropout import RecurrentDropout, SequenceMasks, apply_mask, draw_masks


class RecurrentLanguageModel(nn.Module):
    """Predicts the next token: tied embedding and decoder around a recurrent cell.

    Dropout in training, each mask drawn once per sequence: words, embedded words, the cell's
    input and states, the output sequence. Matrices start uniform in ±0.04, the decoder's bias
    at zero.

    Attributes:
        embedding: shape (vocabulary, embedding); the decoder's weight as well.
        decoder_bias: shape (vocabulary,).
        cell: the recurrent cell.
        tar_beta: weight of the temporal activation regularisation (Merity et al. 2017).

    Args:
        cell: the recurrent cell.
        vocab_size: number of distinct tokens.
        embedding_dim: must equal hidden_dim, because the decoder reuses the embedding.
        hidden_dim: units of the cell.
        dropout: probabilities.
        tar_beta: see the attribute.
    """

    def __init__(
        self,
        cell: RecurrentCell,
        *,
        vocab_size: int,
        embedding_dim: int,
        hidden_dim: int,
        dropout: RecurrentDropout,
        tar_beta: float,
    ) -> None:
        super().__init__()
        if embedding_dim != hidden_dim:
            raise ConfigError(
                f"embedding_dim ({embedding_dim}) and hidden_dim ({hidden_dim}) must be equal: the"
                " decoder shares the embedding's weights."
            )
        self.embedding = nn.Parameter(torch.empty(vocab_size, embedding_dim))
        nn.init.uniform_(self.embedding, -INIT_RANGE, INIT_RANGE)
        self.decoder_bias = nn.Parameter(torch.zeros(vocab_size))
        self.cell = cell
        self.dropout = dropout
        self.tar_beta = tar_beta

    def forward(self, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the token after each token.

        Args:
            tokens: shape (time, batch), int64.
            hidden: shape (1, batch, hidden).

        Returns:
            log probabilities, shape (time, batch, vocabulary), and the next hidden state.

        Raises:
            DataError: on a CPU, a token outside the vocabulary.
        """
        return self._log_probabilities(tokens, hidden)

    def init_hidden(self, batch_size: int) -> Tensor:
        """Return zeros of shape (1, batch, hidden)."""
        return self.embedding.new_zeros(1, batch_size, self.embedding.shape[1])

    def initial_state(self, batch_size: int) -> Tensor:
        """Return the state before the first batch of an epoch, as `init_hidden`."""
        return self.init_hidden(batch_size)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean negative log likelihood per token, in nats, from a zero state.

        Args:
            batch: tokens and next tokens, each of shape (time, batch).
        """
        return self.stateful_loss(batch, self.init_hidden(batch[0].shape[1]))[0]

    def stateful_loss(
        self, batch: tuple[Tensor, Tensor], state: Tensor | None, *, regularised: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the mean negative log likelihood per token and the detached next state.

        Args:
            batch: tokens and next tokens, each of shape (time, batch).
            state: shape (1, batch, hidden); None: zeros.
            regularised: add `tar_beta * mean((h_t - h_{t-1})^2)` over the cell's outputs before
                dropout.

        Raises:
            DataError: on a CPU, a token outside the vocabulary.
        """
        return self._loss(batch, state, regularised)

    def _loss(
        self,
        batch: tuple[Tensor, Tensor],
        state: Tensor | None,
        regularised: bool,
        p: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        tokens, targets = batch
        hidden = self.init_hidden(tokens.shape[1]) if state is None else state
        logits, outputs, hidden = self._run(tokens, hidden, p)
        with self._vocabulary_checked(targets):
            loss = F.cross_entropy(logits.flatten(0, 1), targets.reshape(-1))
        if regularised and len(outputs) > 1:
            loss = loss + self.tar_beta * (outputs[1:] - outputs[:-1]).square().mean()
        return loss, hidden.detach()

    def _log_probabilities(
        self, tokens: Tensor, hidden: Tensor, p: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        logits, _, hidden = self._run(tokens, hidden, p)
        return logits.log_softmax(-1), hidden

    def _run(
        self, tokens: Tensor, hidden: Tensor, p: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, the cell's outputs before dropout, and the next hidden state.

        Args:
            tokens: shape (time, batch).
            hidden: shape (1, batch, hidden).
            p: weights of a mixed cell's primitives, (edges, columns).
        """
        vocab_size, hidden_dim = self.embedding.shape
        masks = SequenceMasks()
        if self.training:
            batch_size = tokens.shape[1]
            masks = draw_masks(self.dropout, vocab_size, batch_size, hidden_dim, self.embedding)
        with self._vocabulary_checked(tokens):
            words = F.embedding(tokens, self.embedding)
        if masks.word is not None:
            words = words * F.embedding(tokens, masks.word)
        words = apply_mask(words, masks.embedding)
        outputs = self.cell(words, hidden[0], masks, p)
        # Autograd follows the layout of the factors; this one gives products with few rows and
        # many columns, which are up to 1.5 times faster on CPUs than the other way round.
        features = apply_mask(outputs, masks.output).flatten(0, 1)
        decoder = self.embedding.t().contiguous()
        logits = torch.addmm(self.decoder_bias, features, decoder).view(*tokens.shape, -1)
        # A copy, so that the carried state does not keep the whole sequence in memory.
        return logits, outputs, outputs[-1:].clone()

    @contextmanager
    def _vocabulary_checked(self, tokens: Tensor) -> Iterator[None]:
        try:
            yield
        except IndexError as error:
            raise DataError(
                f"Token {int(tokens.max())} is outside the network's vocabulary of"
                f" {len(self.embedding)} (ids start at 0, lowest here: {int(tokens.min())}); use"
                " the vocabulary that the network was built for."
            ) from error
