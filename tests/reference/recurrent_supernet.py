"""Plain recurrent language models: one edge and one primitive at a time, slow and obvious.

Parameter names, shapes, the mathematics and the order of random draws are those of the original
code, so these modules also stand for it where its checkpoints are read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.nn import RecurrentDropout
from darts_ray.space import RecurrentGenotype

PRIMITIVES = ("none", "tanh", "relu", "sigmoid", "identity")
FUNCTIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda h: h,
}


class PlainCell(nn.Module):
    """Runs a sequence; the subclass says what follows the transformed input."""

    def __init__(self, inputs: int, hidden: int, nodes: int, dropout: RecurrentDropout) -> None:
        super().__init__()
        self.dropout = dropout
        self._W0 = nn.Parameter(torch.empty(inputs + hidden, 2 * hidden).uniform_(-0.04, 0.04))
        self._Ws = nn.ParameterList(
            torch.empty(hidden, 2 * hidden).uniform_(-0.04, 0.04) for _ in range(nodes)
        )

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        x_mask = self._mask(inputs[0], self.dropout.input)
        h_mask = self._mask(hidden, self.dropout.hidden)
        outputs = []
        for x in inputs:
            gate, h = (torch.cat([x * x_mask, hidden * h_mask], -1) @ self._W0).chunk(2, -1)
            s0 = hidden + gate.sigmoid() * (h.tanh() - hidden)
            hidden = self.nodes(s0, h_mask)
            outputs.append(hidden)
        return torch.stack(outputs)

    def _mask(self, like: Tensor, p: float) -> Tensor:
        if not self.training or not p:
            return torch.ones_like(like)
        return torch.floor(torch.rand(like.shape, dtype=like.dtype) + (1 - p)) / (1 - p)


class PlainMixedCell(PlainCell):
    def __init__(self, inputs: int, hidden: int, nodes: int, dropout: RecurrentDropout) -> None:
        super().__init__(inputs, hidden, nodes, dropout)
        self.bn = nn.BatchNorm1d(hidden, affine=False)
        self.alphas: Tensor  # set by the network before each sequence

    def nodes(self, s0: Tensor, mask: Tensor) -> Tensor:
        weights = self.alphas.softmax(-1)
        states = [self.bn(s0)]
        row = 0
        for w in self._Ws:
            total = torch.zeros_like(s0)
            for s in list(states):
                gate, h = ((s * mask) @ w).chunk(2, -1)
                gate = gate.sigmoid()
                for column, name in enumerate(PRIMITIVES):
                    if name != "none":
                        out = s + gate * (FUNCTIONS[name](h) - s)
                        total = total + weights[row, column] * out
                row += 1
            states.append(self.bn(total))
        return sum(states[1:]) / len(self._Ws)


class PlainDerivedCell(PlainCell):
    def __init__(
        self, inputs: int, hidden: int, genotype: RecurrentGenotype, dropout: RecurrentDropout
    ) -> None:
        super().__init__(inputs, hidden, len(genotype.recurrent), dropout)
        self.genotype = genotype

    def nodes(self, s0: Tensor, mask: Tensor) -> Tensor:
        states = [s0]
        for w, (name, predecessor) in zip(self._Ws, self.genotype.recurrent, strict=True):
            s = states[predecessor]
            gate, h = ((s * mask) @ w).chunk(2, -1)
            states.append(s + gate.sigmoid() * (FUNCTIONS[name](h) - s))
        return sum(states[i] for i in self.genotype.concat) / len(self.genotype.concat)


class PlainLanguageModel(nn.Module):
    """The original's RNNModel around one cell; hidden states are (1, batch, hidden)."""

    def __init__(self, vocab_size: int, cell: PlainCell, tar_beta: float) -> None:
        super().__init__()
        hidden = cell.get_parameter("_Ws.0").shape[0]
        self.dropout = cell.dropout
        self.tar_beta = tar_beta
        self.encoder = nn.Embedding(vocab_size, hidden)
        self.rnns = nn.ModuleList([cell])
        self.decoder = nn.Linear(hidden, vocab_size)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.04, 0.04)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        log_probs, _, hidden = self._run(tokens, hidden)
        return log_probs, hidden

    def init_hidden(self, batch_size: int) -> Tensor:
        return self.encoder.weight.new_zeros(1, batch_size, self.encoder.weight.shape[1])

    initial_state = init_hidden

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return self.stateful_loss(batch, self.init_hidden(batch[0].shape[1]))[0]

    def stateful_loss(self, batch, state, *, regularised: bool = False):
        tokens, targets = batch
        state = self.init_hidden(tokens.shape[1]) if state is None else state
        log_probs, outputs, hidden = self._run(tokens, state)
        loss = F.nll_loss(log_probs.flatten(0, 1), targets.flatten())
        if regularised:
            loss = loss + self.tar_beta * (outputs[1:] - outputs[:-1]).pow(2).mean()
        return loss, hidden.detach()

    def _run(self, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        table = self.encoder.weight
        table = table * self._locked((len(table), 1), self.dropout.word)
        words = F.embedding(tokens, table)
        words = words * self._locked((1, *words.shape[1:]), self.dropout.embedding)
        outputs = self.rnns[0](words, hidden[0])
        dropped = outputs * self._locked((1, *outputs.shape[1:]), self.dropout.output)
        return self.decoder(dropped).log_softmax(-1), outputs, outputs[-1:]

    def _locked(self, shape: tuple[int, ...], p: float) -> Tensor | float:
        if not self.training or not p:
            return 1.0
        return self.encoder.weight.new_empty(shape).bernoulli_(1 - p) / (1 - p)


class PlainRecurrentSupernet(PlainLanguageModel):
    """Implements the `Supernet` protocol; alphas are no parameters, as in the original code."""

    clips_virtual_step = True

    def __init__(
        self,
        vocab_size: int,
        hidden: int,
        nodes: int = 8,
        dropout: RecurrentDropout | None = None,
        tar_beta: float = 1e-3,
    ) -> None:
        dropout = dropout or RecurrentDropout()
        super().__init__(vocab_size, PlainMixedCell(hidden, hidden, nodes, dropout), tar_beta)
        edges = nodes * (nodes + 1) // 2
        self._alphas = [(1e-3 * torch.randn(edges, len(PRIMITIVES))).requires_grad_()]

    @property
    def alphas(self) -> dict[str, Tensor]:
        return {"recurrent": self._alphas[0]}

    @property
    def weights(self) -> list[nn.Parameter]:
        return list(self.parameters())

    def set_alphas(self, alphas: Tensor) -> None:
        self._alphas = [alphas.detach().clone().requires_grad_()]

    def _run(self, tokens: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.rnns[0].alphas = self._alphas[0]
        return super()._run(tokens, hidden)


class PlainRecurrentNetwork(PlainLanguageModel):
    def __init__(
        self,
        genotype: RecurrentGenotype,
        vocab_size: int,
        hidden: int,
        dropout: RecurrentDropout | None = None,
        tar_beta: float = 1e-3,
    ) -> None:
        dropout = dropout or RecurrentDropout()
        cell = PlainDerivedCell(hidden, hidden, genotype, dropout)
        super().__init__(vocab_size, cell, tar_beta)
