"""The recurrent supernet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.recurrent.cells import MixedRecurrentCell
from darts_ray.nn.recurrent.dropout import RecurrentDropout
from darts_ray.nn.recurrent.language_model import RecurrentLanguageModel
from darts_ray.space import RecurrentGenotype, SearchSpace, derive, resolve_space

_DROPOUT = RecurrentDropout()


class RecurrentSupernet(RecurrentLanguageModel):
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
        nodes: intermediate nodes of the cell.
        dropout: probabilities.
        tar_beta: weight of the temporal activation regularisation.
        space: a recurrent space, by name or value.

    Raises:
        ConfigError: the sizes differ, the space is not recurrent, or a primitive is unknown.
    """

    clips_virtual_step = True

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 300,
        hidden_dim: int = 300,
        nodes: int = 8,
        dropout: RecurrentDropout = _DROPOUT,
        tar_beta: float = 1e-3,
        space: str | SearchSpace = "recurrent",
    ) -> None:
        resolved = resolve_space(space)
        if resolved.kind != "recurrent":
            raise ConfigError(
                f"RecurrentSupernet: the space {resolved.name!r} is {resolved.kind}."
            )
        super().__init__(
            MixedRecurrentCell(embedding_dim, hidden_dim, nodes, resolved.primitives),
            vocab_size=vocab_size,
            embedding_dim=embedding_dim,
            hidden_dim=hidden_dim,
            dropout=dropout,
            tar_beta=tar_beta,
        )
        self.space = resolved
        shape = (resolved.num_edges(nodes), len(resolved.primitives))
        self.alpha_recurrent = nn.Parameter(1e-3 * torch.randn(shape))

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        """Raw alphas, `{"recurrent": (num_edges, num_primitives)}`."""
        return {"recurrent": self.alpha_recurrent}

    @property
    def weights(self) -> list[nn.Parameter]:
        """All parameters but the alphas."""
        return [weight for weight in self.parameters() if weight is not self.alpha_recurrent]

    def genotype(self) -> RecurrentGenotype:
        """Return the cell that the current alphas stand for."""
        genotype = derive(self.alphas, self.space)
        assert isinstance(genotype, RecurrentGenotype)
        return genotype

    def _cell_alphas(self) -> Tensor:
        return self.alpha_recurrent
