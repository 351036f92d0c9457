"""The language model of a derived recurrent cell."""

from __future__ import annotations

from darts_ray.errors import ConfigError
from darts_ray.nn.recurrent.cells import DerivedRecurrentCell
from darts_ray.nn.recurrent.dropout import RecurrentDropout
from darts_ray.nn.recurrent.language_model import RecurrentLanguageModel
from darts_ray.space import Genotype

_DROPOUT = RecurrentDropout(word=0.1)


class RecurrentNetwork(RecurrentLanguageModel):
    """A language model with the cell of a genotype, to be trained from scratch.

    The defaults are the paper's for Penn Treebank; with 10,000 words that is 22,960,000
    parameters: the tied embedding counts once, the decoder's bias is included.

    Args:
        genotype: the recurrent cell.
        vocab_size: number of distinct tokens.
        embedding_dim: must equal hidden_dim, because the decoder reuses the embedding.
        hidden_dim: units.
        dropout: probabilities.
        tar_beta: weight of the temporal activation regularisation.

    Raises:
        ConfigError: the sizes differ, the genotype is not recurrent, or an activation is unknown.
    """

    def __init__(
        self,
        genotype: Genotype,
        vocab_size: int,
        embedding_dim: int = 850,
        hidden_dim: int = 850,
        dropout: RecurrentDropout = _DROPOUT,
        tar_beta: float = 1e-3,
    ) -> None:
        if genotype.skeleton != "language_model":
            raise ConfigError("RecurrentNetwork: the genotype is not that of a recurrent cell.")
        super().__init__(
            DerivedRecurrentCell(embedding_dim, hidden_dim, genotype),
            vocab_size=vocab_size,
            embedding_dim=embedding_dim,
            hidden_dim=hidden_dim,
            dropout=dropout,
            tar_beta=tar_beta,
        )
        self.genotype = genotype
