"""The parts that a search method is made of: small protocols, and what stands for "nothing".

A `Method` names its parts; `SearchRun` and `BilevelStep` know no method by name. A method that
needs one part of its own writes that part and leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from torch import Tensor, nn

from darts_ray.nn.mixing import Mixing, softmax_mixing
from darts_ray.nn.supernet import Batch
from darts_ray.space import SearchSpace

Role: TypeAlias = Literal["alpha", "weight", "eval"]
"""What a forward pass is for: the alphas' loss, the weights' loss, or an evaluation."""

Probe: TypeAlias = Callable[[Mixing], Tensor]
"""Maps a mixing to the loss of the batch at hand; random numbers and states stay as they are."""

Alphas: TypeAlias = Mapping[str, Tensor]
"""All architecture parameters by name: those of the cells, then those that a method added."""


@dataclass(frozen=True)
class Progress:
    """Where a search is: what schedules and ramps are functions of.

    Attributes:
        epoch: t, counted from 0.
        epochs: E.
    """

    epoch: int = 0
    epochs: int = 1

    @property
    def share(self) -> float:
        """T / E: 0 in the first epoch, below 1 in the last."""
        return self.epoch / self.epochs

    @property
    def ramp(self) -> float:
        """T / (E - 1): 0 in the first epoch, 1 in the last; 0 if there is only one."""
        return self.epoch / (self.epochs - 1) if self.epochs > 1 else 0.0


class Relaxation(Protocol):
    """Maps alphas to mixing weights, outside the network.

    Random draws come from PyTorch's global generators, so that a resumed run repeats them. A
    draw serves one forward pass, or all passes of one virtual step.
    """

    def initial(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return initial values that replace, or are added to, the supernet's own alphas."""

    def mix(
        self,
        alphas: Alphas,
        space: SearchSpace,
        role: Role,
        progress: Progress,
        probe: Probe | None = None,
    ) -> Mixing:
        """Return the mixing weights of one forward pass, differentiable in the alphas.

        Args:
            alphas: the present values.
            space: the search space.
            role: what the pass is for.
            progress: for ramps.
            probe: the training loss as a function of the mixing; with the role `weight` only.
        """

    def strength(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return by cell what a derivation by magnitude ranks, (edges, columns)."""

    def shown(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return by name what tables and figures show: relaxed weights, and one beta per edge."""


class Softmax:
    """The relaxation of DARTS: p = softmax(alpha), edge by edge; the base of others."""

    def initial(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return nothing: alphas stay the supernet's, 1e-3 * N(0, 1)."""
        return {}

    def mix(
        self,
        alphas: Alphas,
        space: SearchSpace,
        role: Role,
        progress: Progress,
        probe: Probe | None = None,
    ) -> Mixing:
        """Return the softmax, whatever the pass is for."""
        return softmax_mixing(alphas, space)

    def strength(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return the softmax."""
        return dict(softmax_mixing(alphas, space).weights)

    def shown(self, alphas: Alphas, space: SearchSpace) -> dict[str, Tensor]:
        """Return the strengths."""
        return self.strength(alphas, space)


Penalty: TypeAlias = Callable[[Alphas, SearchSpace, Progress], Tensor]
"""A term of the alphas' loss: a scalar, differentiable in the alphas."""


@dataclass(frozen=True)
class WeightStep:
    """What a weight rule sees of one weight step, after the backward pass and before clipping.

    Attributes:
        supernet: the network.
        weights: its parameters with their gradients in `.grad`.
        mixing: that the training loss was computed with; detached.
        loss: maps a batch and a mixing to its loss; states and random numbers stay as they are.
        train: the training batch.
        valid: the alphas' batch of the same step.
        progress: for ramps.
    """

    supernet: Any
    weights: Sequence[Tensor]
    mixing: Mixing
    loss: Callable[[Batch, Mixing], Tensor]
    train: Batch
    valid: Batch
    progress: Progress


class WeightRule(Protocol):
    """Changes the gradient of the weights: adds a term, or freezes operations."""

    def apply(self, step: WeightStep) -> None:
        """Change the `.grad` of the weights in place."""

    def after(self, step: WeightStep) -> None:
        """Change the weights in place, after the optimiser has."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the rule carries from step to step."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from that."""


class StatelessRule:
    """Carries nothing from step to step; the base of rules that only change gradients."""

    def after(self, step: WeightStep) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs in which the same things are trained.

    Attributes:
        name: for metrics and messages.
        epochs: how many.
        trains_weights: whether batches are looked at at all.
        alpha_step: whether alphas are trained.
        weight_lr: a constant learning rate; None: the configured cosine over the phase, or over
            all phases up to the next one that resets the optimiser.
        resets: begin with a fresh optimiser of the weights.
    """

    name: str
    epochs: int
    trains_weights: bool = True
    alpha_step: bool = True
    weight_lr: float | None = None
    resets: bool = False


@dataclass(frozen=True)
class Go:
    """Go on with the search."""


@dataclass(frozen=True)
class Stop:
    """End the search; the genotype after epoch `epoch` (from 0) is its result."""

    epoch: int


@dataclass(frozen=True)
class Rollback:
    """Return to the state after epoch `epoch` (from 0) and go on with other hyperparameters."""

    epoch: int
    weight_decay: float


class Stopper(Protocol):
    """Decides after each epoch whether the search goes on."""

    def measures(self, epoch: int, epochs: int) -> bool:
        """Return whether the eigenvalue is needed after this epoch (from 0)."""

    def observe(
        self, epoch: int, epochs: int, eigenvalue: float, weight_decay: float
    ) -> Go | Stop | Rollback:
        """Take note of a measurement and decide.

        Args:
            epoch: counted from 0.
            epochs: of the search.
            eigenvalue: of this epoch.
            weight_decay: the present one of the weights.
        """


class Derivation(Protocol):
    """Turns a trained supernet into a genotype; see `darts_ray.search.deriving.by_strength`."""

    def begin_epoch(self, run: Any, phase: Phase, epoch: int) -> dict[str, Any]:
        """Act before the training of an epoch (from 0, within its phase); return metrics."""

    def end_search(self, run: Any) -> dict[str, Any]:
        """Act after the last epoch; return metrics."""

    def genotype(self, run: Any) -> Any:
        """Return the architecture that the present state stands for."""

    def state_dict(self) -> dict[str, Any]:
        """Return what has been decided."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from that."""


def no_ramps(supernet: nn.Module, progress: Progress) -> None:
    """Set nothing: the default of `Method.set_ramps`."""


@dataclass(frozen=True)
class Method:
    """A search method: the parts that it replaces.

    Attributes:
        name: as in `search.method`.
        relaxation: alphas to mixing weights.
        connection: makes what surrounds the operations of conv cells; None: nothing does.
        penalty: added to the loss of the alphas.
        alpha_weight_decay: instead of the configured one.
        weight_rule: makes what changes the gradient of the weights; None: nothing does.
        set_ramps: sets what changes from epoch to epoch inside the supernet.
        phases: maps the configured number of epochs and the space to the schedule.
        derivation: makes what decides on the genotype; None: by strength, at any time.
        single_level: alphas and weights are trained on the same batch.
        projects: an edge of which the supernet's mask leaves one primitive has it at weight 1.
    """

    name: str
    relaxation: Relaxation = field(default_factory=Softmax)
    connection: Callable[[], Any] | None = None
    penalty: Penalty | None = None
    alpha_weight_decay: float | None = None
    weight_rule: Callable[[], WeightRule] | None = None
    set_ramps: Callable[[Any, Progress], None] = no_ramps
    phases: Callable[[int, SearchSpace], Sequence[Phase]] = lambda epochs, space: (
        Phase("search", epochs),
    )
    derivation: Callable[[], Derivation] | None = None
    single_level: bool = False
    projects: bool = False
