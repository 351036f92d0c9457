"""What a search needs to know of a supernet: the one interface of both search spaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias

from torch import Tensor, nn

from darts_ray.nn.mixing import Mixing
from darts_ray.space import Genotype, SearchSpace

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Inputs and targets: `(images, labels)` or `(tokens, next tokens)`."""

State: TypeAlias = Tensor | None
"""What is carried from one batch to the next: None, or hidden states of a recurrent net."""


class Supernet(Protocol):
    """A weight-sharing network with architecture parameters; always an `nn.Module` as well.

    Every loss can be differentiated twice, so `hvp="exact"` needs no switch. Alphas are
    Parameters and appear in `state_dict` (as `alpha_normal` and so on) but not in `weights`: a
    deliberate correction, the original code kept them in neither.

    To be searched with a `BilevelStep`, a stateless network of one's own may leave out
    `clips_virtual_step`, `initial_state` and `stateful_loss`.

    `tests/nn/test_contract.py` holds the tests that every supernet passes.

    Attributes:
        clips_virtual_step: whether the virtual step of the unrolled gradient clips its gradient
            unless the configuration says otherwise (recurrent yes, conv no).
        space: what the search chooses from.
        training: as of `nn.Module`.
    """

    clips_virtual_step: bool
    space: SearchSpace
    training: bool

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        """All architecture parameters by name: those of the cells, (edges, columns), first."""

    def add_alphas(self, groups: Mapping[str, Tensor]) -> None:
        """Add architecture parameters of a method, which join `alphas`; by name."""

    @property
    def mask(self) -> dict[str, Tensor]:
        """By cell, which primitives may take part, bool (edges, columns); all at first."""

    @property
    def weights(self) -> list[nn.Parameter]:
        """All network parameters, without the alphas, in a fixed order."""

    def mixing(self) -> Mixing:
        """Return the relaxation that `loss` uses by default: the softmax of the alphas."""

    def loss(
        self,
        batch: Batch,
        state: State = None,
        *,
        mixing: Mixing | None = None,
        regularised: bool = False,
    ) -> Tensor:
        """Return the mean loss of a batch (0-dim).

        Args:
            batch: inputs and targets.
            state: before the batch; None: a fresh one.
            mixing: weights of primitives and edges; default: `mixing()`.
            regularised: as of `stateful_loss`.
        """

    def initial_state(self, batch_size: int) -> State:
        """Return the state before the first batch of an epoch."""

    def stateful_loss(
        self,
        batch: Batch,
        state: State,
        *,
        mixing: Mixing | None = None,
        regularised: bool = False,
    ) -> tuple[Tensor, State]:
        """Return the mean loss and the detached state after the batch.

        Args:
            batch: inputs and targets.
            state: from `initial_state` or the call before.
            mixing: weights of primitives and edges; default: `mixing()`.
            regularised: add the terms that only weight steps minimise (recurrent: TAR).
        """

    def genotype(self) -> Genotype:
        """Return the architecture that the current alphas stand for."""

    def train(self, mode: bool = True) -> Supernet:
        """Switch between training and evaluation, as `nn.Module.train`."""

    def eval(self) -> Supernet:
        """Switch to evaluation, as `nn.Module.eval`."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return weights and alphas, as `nn.Module.parameters`."""


@contextmanager
def weights_frozen(weights: Sequence[Tensor]) -> Iterator[None]:
    """Within the context, losses are computed for alpha gradients only.

    `autograd.grad(loss, alphas)` gives the same values without it. But a hand-written autograd
    function learns in its forward pass which gradients it will be asked for, so only this lets
    it skip those of the weights, which are half of the work.

    Args:
        weights: as of `Supernet.weights`, all of them requiring gradients.
    """
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
