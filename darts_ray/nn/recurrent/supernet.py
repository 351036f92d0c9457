"""The recurrent supernet."""

from __future__ import annotations

import torch
from torch import Tensor

from darts_ray.errors import ConfigError
from darts_ray.nn.architecture import ArchitectureParameters
from darts_ray.nn.mixing import Mixing
from darts_ray.nn.recurrent.cells import MixedRecurrentCell, PlainMixedRecurrentCell
from darts_ray.nn.recurrent.dropout import RecurrentDropout
from darts_ray.nn.recurrent.language_model import RecurrentLanguageModel
from darts_ray.nn.supernet import Batch, State
from darts_ray.space import SearchSpace, resolve_space

_DROPOUT = RecurrentDropout()


class RecurrentSupernet(ArchitectureParameters, RecurrentLanguageModel):
    """A language model whose cell is relaxed; implements the `Supernet` protocol.

    Batches are `(tokens, next tokens)` of shape (time, batch). The defaults are the paper's
    for Penn Treebank. Batch normalisation always uses the statistics of the batch, a deliberate
    correction, see `MixedRecurrentCell`.

    Attributes:
        clips_virtual_step: True, as in the original code for recurrent cells.

    Args:
        vocab_size: number of distinct tokens.
        embedding_dim: must equal hidden_dim, because the decoder reuses the embedding.
        hidden_dim: units.
        nodes: intermediate nodes of the cell; None takes the space's.
        dropout: probabilities.
        tar_beta: weight of the temporal activation regularisation.
        space: a recurrent space, by name or value.
        fused: compute all edges that leave a state together; False is the plain supernet, which
            evaluates each activation of each edge on its own and has the same parameters.

    Raises:
        ConfigError: the sizes differ, the space is not recurrent, or a primitive is unknown.
    """

    clips_virtual_step = True

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 300,
        hidden_dim: int = 300,
        nodes: int | None = None,
        dropout: RecurrentDropout = _DROPOUT,
        tar_beta: float = 1e-3,
        space: str | SearchSpace = "recurrent",
        fused: bool = True,
    ) -> None:
        space = resolve_space(space).resized(nodes)
        if space.cell_names != ("recurrent",):
            raise ConfigError(
                f"RecurrentSupernet: the space {space.name!r} is not for recurrent cells."
            )
        make_cell = MixedRecurrentCell if fused else PlainMixedRecurrentCell
        super().__init__(
            make_cell(embedding_dim, hidden_dim, space.cell("recurrent")),
            vocab_size=vocab_size,
            embedding_dim=embedding_dim,
            hidden_dim=hidden_dim,
            dropout=dropout,
            tar_beta=tar_beta,
        )
        self._add_architecture(space, space.alpha_shapes)

    def forward(
        self, tokens: Tensor, hidden: Tensor, mixing: Mixing | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predict the token after each token, as `RecurrentLanguageModel.forward`.

        Args:
            tokens: shape (time, batch), int64.
            hidden: shape (1, batch, hidden).
            mixing: weights of primitives and edges; default: the softmax of the alphas.
        """
        return self._log_probabilities(tokens, hidden, self._cell_weights(mixing))

    def loss(
        self,
        batch: Batch,
        state: State = None,
        *,
        mixing: Mixing | None = None,
        regularised: bool = False,
    ) -> Tensor:
        """Return the mean negative log likelihood per token, in nats; see `stateful_loss`."""
        return self.stateful_loss(batch, state, mixing=mixing, regularised=regularised)[0]

    def stateful_loss(
        self,
        batch: Batch,
        state: State,
        *,
        mixing: Mixing | None = None,
        regularised: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return the mean negative log likelihood per token and the detached next state.

        Args:
            batch: tokens and next tokens, each of shape (time, batch).
            state: shape (1, batch, hidden); None: zeros.
            mixing: weights of primitives and edges; default: the softmax of the alphas.
            regularised: add temporal activation regularisation.

        Raises:
            ConfigError: the mixing does not fit.
            DataError: on a CPU, a token outside the vocabulary.
        """
        return self._loss(batch, state, regularised, self._cell_weights(mixing))

    def _cell_weights(self, mixing: Mixing | None) -> Tensor:
        """Return p times mask and edges, (edges, columns)."""
        mixing = mixing or self.mixing()
        p = self._masked_weights(mixing)["recurrent"]
        p = p.squeeze(0) if p.dim() == 3 else p
        if mixing.active is not None:
            # All activations run, because they cost little beside the products of matrices.
            columns = range(p.shape[1])
            runs = [[column in row for column in columns] for row in mixing.active["recurrent"]]
            p = p * torch.tensor(runs, device=p.device)
        if mixing.edges is None:
            return p
        return p * mixing.edges["recurrent"].to(p).unsqueeze(-1)
