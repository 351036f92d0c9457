"""Tiny smooth supernets that fulfil the protocol, for tests of the optimisation alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darts_ray.nn.supernet import Batch, State


class FeedForwardToy(nn.Module):
    """Two mixed layers over (batch, 5) inputs; 3 classes; batch statistics in between."""

    clips_virtual_step = False

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6)
        self.second = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)
        self.alpha_normal = nn.Parameter(0.3 * torch.randn(1, 3))
        self.alpha_reduce = nn.Parameter(0.3 * torch.randn(1, 3))

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        return {"normal": self.alpha_normal, "reduce": self.alpha_reduce}

    @property
    def weights(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if not name.startswith("alpha_")]

    def initial_state(self, batch_size: int) -> State:
        return None

    def stateful_loss(self, batch: Batch, state: State, *, regularised: bool = False):
        x, targets = batch
        x = _mixed(self.alpha_normal, self.first(x))
        x = F.batch_norm(x, None, None, training=True)
        x = _mixed(self.alpha_reduce, self.second(x))
        return F.cross_entropy(self.head(x), targets), None

    def loss(self, batch: Batch) -> Tensor:
        return self.stateful_loss(batch, None)[0]


class MinimalToy:
    """A `FeedForwardToy` of which a search sees alphas, weights, loss and genotype only."""

    def __init__(self, toy: FeedForwardToy) -> None:
        self.alphas, self.weights, self.loss = toy.alphas, toy.weights, toy.loss

    def genotype(self) -> None: ...


class RecurrentToy(nn.Module):
    """A mixed Elman cell over (time, batch) tokens, with one dropout mask per sequence."""

    clips_virtual_step = True

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding = nn.Parameter(0.5 * torch.randn(7, 4))
        self.cell = nn.Linear(8, 4)
        self.alpha_recurrent = nn.Parameter(0.3 * torch.randn(1, 3))
        self.dropout = dropout

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        return {"recurrent": self.alpha_recurrent}

    @property
    def weights(self) -> list[nn.Parameter]:
        return [self.embedding, *self.cell.parameters()]

    def initial_state(self, batch_size: int) -> State:
        return self.embedding.new_zeros(batch_size, 4)

    def stateful_loss(self, batch: Batch, state: State, *, regularised: bool = False):
        tokens, targets = batch
        mask = F.dropout(torch.ones_like(state), self.dropout, self.training)
        states = []
        for x in self.embedding[tokens]:
            state = _mixed(self.alpha_recurrent, self.cell(torch.cat([x, state * mask], -1)))
            states.append(state)
        outputs = torch.stack(states)
        logits = outputs @ self.embedding.T  # tied, as in the recurrent networks
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        if regularised:
            loss = loss + 0.1 * (outputs[1:] - outputs[:-1]).square().mean()
        return loss, state.detach()

    def loss(self, batch: Batch) -> Tensor:
        return self.stateful_loss(batch, self.initial_state(batch[1].shape[-1]))[0]


class PaperToy(nn.Module):
    """The paper's example (figure 2): scalar alpha and w, a loss per kind of batch.

    L_val = alpha w - 2 alpha + 1,   L_train = w^2 - 2 alpha w + alpha^2,   so w*(alpha) = alpha.
    """

    clips_virtual_step = False

    def __init__(self, alpha: float, w: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([[alpha]]))
        self.w = nn.Parameter(torch.tensor([w]))

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        return {"normal": self.alpha}

    @property
    def weights(self) -> list[nn.Parameter]:
        return [self.w]

    def initial_state(self, batch_size: int) -> State:
        return None

    def stateful_loss(self, batch: Batch, state: State, *, regularised: bool = False):
        alpha, w = self.alpha.squeeze(), self.w.squeeze()
        if batch is PAPER_TRAIN:
            return w**2 - 2 * alpha * w + alpha**2, None
        return alpha * w - 2 * alpha + 1, None

    def loss(self, batch: Batch) -> Tensor:
        return self.stateful_loss(batch, None)[0]


PAPER_TRAIN: Batch = (torch.zeros(1), torch.zeros(1))
PAPER_VALID: Batch = (torch.ones(1), torch.zeros(1))


def _mixed(alpha: Tensor, x: Tensor) -> Tensor:
    shares = alpha.softmax(-1).squeeze(0)
    return shares[0] * torch.tanh(x) + shares[1] * torch.sigmoid(2 * x) + shares[2] * x


def image_like_batch(seed: int, size: int = 8) -> Batch:
    """A batch for `FeedForwardToy`."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 5, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(3, (size,), generator=generator)


def token_batch(seed: int, length: int = 5, size: int = 3, vocabulary: int = 7) -> Batch:
    """A (time, batch) batch for `RecurrentToy`."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocabulary, (length + 1, size), generator=generator)
    return tokens[:-1], tokens[1:]
