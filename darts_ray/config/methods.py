"""Search methods and their constants; the defaults are their papers'.

What a method computes is in `darts_ray.search.methods`; here is only what a user may set, and with
what it does not combine.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from darts_ray.config.base import (
    Model,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
)
from darts_ray.config.reading.messages import explain
from darts_ray.errors import ConfigError
from darts_ray.space import CellSpace, SearchSpace
from darts_ray.space.user_modules import import_extensions

if TYPE_CHECKING:
    from darts_ray.config.search import SearchConfig


class MethodConfig(Model):
    """What every method has; the base of a user's own.

    Attributes:
        conv_only: why the method is for conv cells only; empty: it is not.
        draws: mixing weights are drawn or change in every step, which a CUDA graph does not see.
        picks_operations: operations to run are chosen on the host, step by step.
        trains_alphas: whether alphas, and with them the order of their gradient, matter.
    """

    conv_only: ClassVar[str] = ""
    draws: ClassVar[bool] = False
    picks_operations: ClassVar[bool] = False
    trains_alphas: ClassVar[bool] = True

    name: str
    imports: tuple[str, ...] = Field(
        (), description="Python modules to import first; they register own methods."
    )

    def check(self, search: SearchConfig) -> None:
        """Refuse a combination that means nothing.

        Raises:
            ValueError: it does not; the message says what to change.
        """
        if self.conv_only and search.network.kind != "conv":
            raise ValueError(
                f"method: {self.name!r} is for conv searches, because {self.conv_only}; choose"
                " another method"
            )
        if self.draws and search.graphs:
            raise ValueError(
                f"graphs: {self.name!r} changes its mixing weights from step to step, which a CUDA"
                " graph would not see; set graphs: false"
            )
        if self.picks_operations and search.compile:
            raise ValueError(
                f"compile: {self.name!r} chooses the operations that run in each step, and every"
                " choice would be compiled anew; set compile: false"
            )

    def ineffective(self) -> list[str]:
        """Return one line per value that has no effect beside the others."""
        return []

    def total_epochs(self, search: SearchConfig) -> int:
        """Return the epochs of all phases; `search.epochs` are those of the search itself."""
        return search.epochs


class DartsConfig(MethodConfig):
    """DARTS: softmax of the alphas, derivation by magnitude."""

    name: Literal["darts"] = "darts"


class DartsMinusConfig(MethodConfig):
    """DARTS-: an auxiliary skip on every edge that fades out."""

    conv_only = "its auxiliary skip connection goes around the operations of a conv cell"
    draws = True

    name: Literal["darts_minus"] = "darts_minus"
    beta: PositiveFloat = Field(1.0, description="Weight of the auxiliary skip in epoch 0.")


class PCDartsConfig(MethodConfig):
    """PC-DARTS: one part of the channels, normalised edges, a warm-up."""

    conv_only = "it divides the channels of conv cells"

    name: Literal["pc_darts"] = "pc_darts"
    channels: PositiveInt = Field(4, description="K: operations see 1/K of the channels.")
    warmup: Probability = Field(0.3, description="Share of the epochs without alpha steps.")

    def check(self, search: SearchConfig) -> None:
        """Check that K divides the channels."""
        super().check(search)
        _check_channels(search, self.channels)


class SDartsConfig(MethodConfig):
    """SmoothDARTS: weights are trained at perturbed mixing weights."""

    draws = True

    name: Literal["sdarts"] = "sdarts"
    perturbation: Literal["random", "adversarial"] = "random"
    epsilon_min: NonNegativeFloat = Field(0.03, description="Radius in epoch 0.")
    epsilon_max: NonNegativeFloat = Field(0.3, description="Radius that the ramp leads to.")
    steps: PositiveInt = Field(7, description="Gradient steps; adversarial only.")

    def ineffective(self) -> list[str]:
        """Return `steps` of random perturbations."""
        if self.perturbation == "random" and self.steps != 7:
            return ["method.steps: has no effect with perturbation: random"]
        return []

    @model_validator(mode="after")
    def _check_radii(self) -> SDartsConfig:
        if self.epsilon_min > self.epsilon_max:
            raise ValueError("epsilon_min: must not exceed epsilon_max")
        return self


class GdasConfig(MethodConfig):
    """GDAS: one operation per edge, drawn by a hard Gumbel softmax."""

    draws = True
    picks_operations = True

    name: Literal["gdas"] = "gdas"
    tau_max: PositiveFloat = Field(10.0, description="Temperature in the first epoch.")
    tau_min: PositiveFloat = Field(0.1, description="Temperature in the last epoch.")
    unselected: Literal["zero", "exact"] = Field(
        "zero",
        description="Gradient of operations that were not drawn: zero (they do not run), or the"
        " one they would have (all run, as slow as DARTS).",
    )


class DrNasConfig(MethodConfig):
    """DrNAS: mixing weights are drawn from a Dirichlet distribution."""

    draws = True

    name: Literal["drnas"] = "drnas"
    regulariser: Literal["l2", "kl"] = Field(
        "l2", description="l2: Adam's weight decay of the alphas; kl: distance from Dirichlet(1)."
    )
    kl_weight: NonNegativeFloat = Field(1e-3, description="Of the kl regulariser.")
    channels: PositiveInt = Field(1, description="Partial channels as in PC-DARTS; 1: all.")
    warmup: Probability = Field(
        0.0, description="Share of the epochs without alpha steps; 0.4 with partial channels."
    )

    def ineffective(self) -> list[str]:
        """Return the weight of a regulariser that is not used."""
        if self.regulariser == "l2" and self.kl_weight != 1e-3:
            return ["method.kl_weight: has no effect with regulariser: l2"]
        return []

    def check(self, search: SearchConfig) -> None:
        """Check that K divides the channels."""
        super().check(search)
        if self.channels > 1:
            _check_channels(search, self.channels)


class BetaDartsConfig(MethodConfig):
    """beta-DARTS: the alphas' logsumexp is part of their loss."""

    draws = True  # the weight of the term changes from epoch to epoch

    name: Literal["beta_darts"] = "beta_darts"
    weight: NonNegativeFloat = Field(50.0, description="Where the ramp from 0 leads to.")


class FairDartsConfig(MethodConfig):
    """FairDARTS: independent sigmoids instead of a softmax, and sparse cells."""

    conv_only = "a recurrent node takes exactly one edge"

    name: Literal["fair_darts"] = "fair_darts"
    weight: NonNegativeFloat = Field(10.0, description="Of the zero-one loss.")
    threshold: Probability = Field(0.85, description="Operations below it are left out.")


class SnasConfig(MethodConfig):
    """SNAS: a soft Gumbel softmax, alphas and weights on the same batches."""

    conv_only = "a recurrent node takes exactly one edge"
    draws = True

    name: Literal["snas"] = "snas"
    tau_max: PositiveFloat = Field(1.0, description="Temperature in the first epoch.")
    tau_min: PositiveFloat = Field(0.03, description="Temperature in the last epoch.")


class LambdaDartsConfig(MethodConfig):
    """Lambda-DARTS: the layers of the network shall agree on their alphas."""

    conv_only = "it compares the normal cells of a network, and a recurrent one has a single cell"
    draws = True

    name: Literal["lambda_darts"] = "lambda_darts"
    weight: NonNegativeFloat = Field(0.125, description="Where the ramp from 0 leads to.")
    epsilon: PositiveFloat = Field(1e-4, description="Size of the finite difference in p.")

    def check(self, search: SearchConfig) -> None:
        """Check that there are two cells to compare."""
        super().check(search)
        layers = getattr(search.network, "layers", 0)
        reductions = {layers // 3, 2 * layers // 3}
        if search.search_space().skeleton == "darts" and layers - len(reductions) < 2:
            raise ValueError(
                f"method: 'lambda_darts' compares the normal cells of a network; {layers} layers"
                " hold fewer than two, so increase network.layers"
            )


class OlesConfig(MethodConfig):
    """OLES: operations whose training and validation gradients disagree are frozen."""

    conv_only = "the operations of a recurrent cell share their weights"
    draws = True

    name: Literal["oles"] = "oles"
    threshold: float = Field(0.4, ge=-1, le=1, description="Freeze below this mean cosine.")
    interval: PositiveInt = Field(20, description="Steps that a mean is taken over.")


class RandomConfig(MethodConfig):
    """A cell drawn at random; nothing is trained."""

    trains_alphas = False

    name: Literal["random"] = "random"

    def total_epochs(self, search: SearchConfig) -> int:
        """Return 1."""
        return 1


class RandomWSConfig(MethodConfig):
    """Random search with weight sharing."""

    draws = True
    picks_operations = True
    trains_alphas = False

    name: Literal["random_ws"] = "random_ws"
    samples: PositiveInt = Field(1000, description="Cells drawn after the training, per round.")
    batches: PositiveInt = Field(10, description="Validation batches that each is scored on.")
    finalists: PositiveInt = Field(10, description="Cells scored on all validation data.")
    steps_per_round: PositiveInt = Field(
        10_000, description="One round of samples per so many steps of training, at least one."
    )


class DartsPTConfig(MethodConfig):
    """DARTS-PT: perturbation-based selection, on top of any method."""

    name: Literal["darts_pt"] = "darts_pt"
    base: AnyMethod = DartsConfig()
    fixed_alpha: bool = Field(False, description="Never train the alphas.")
    criterion: Literal["perturbation", "magnitude"] = Field(
        "perturbation", description="magnitude: the ablation, the same tuning with other picks."
    )
    interval: PositiveInt = Field(5, description="Epochs of tuning between two decisions.")
    weight_lr: PositiveFloat = Field(0.0025, description="Constant, of a fresh SGD.")

    def check(self, search: SearchConfig) -> None:
        """Check the method below as well."""
        if self.base.name in ("darts_pt", "random", "random_ws", "fair_darts"):
            raise ValueError(
                f"method.base: {self.base.name!r} derives its cells in its own way; choose one of"
                " the methods that derive by strength"
            )
        self.base.check(search)
        if search.graphs:
            raise ValueError("graphs: darts_pt decides edge by edge; set graphs: false")

    def total_epochs(self, search: SearchConfig) -> int:
        """Return the search's epochs and those of the tuning."""
        return self.base.total_epochs(search) + self.tuning_epochs(search.search_space())

    def num_decisions(self, space: SearchSpace) -> int:
        """Return the rounds: one edge of every cell kind each, then one incoming edge too many."""
        return max(cell.num_edges + _num_dropped(cell) for cell in space.cells)

    def tuning_epochs(self, space: SearchSpace) -> int:
        """Return the epochs of the projection phase: the last one makes the last decision.

        In the space of DARTS this is a whole number of intervals after the first decision; on
        NAS-Bench-201 the published code tunes one epoch less, 25 for six decisions.
        """
        last = 0 if space.skeleton == "nasbench201" and self.interval > 1 else 1
        return max(1, self.interval * (self.num_decisions(space) - 1) + last)


def _num_dropped(cell: CellSpace) -> int:
    """Return the nodes that have more predecessors than they keep."""
    most = cell.keep or cell.num_edges
    return sum(len(cell.rows(node)) > most for node in range(cell.nodes))


def _check_channels(search: SearchConfig, k: int) -> None:
    channels = getattr(search.network, "channels", None)
    if channels is None:
        raise ValueError(
            "method.channels: partial channels are for conv searches; set channels: 1"
        )
    if channels % k:
        raise ValueError(
            f"method.channels: {k} does not divide network.channels ({channels}); change one of"
            " the two"
        )


METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    model.model_fields["name"].default: model
    for model in (
        DartsConfig,
        DartsPTConfig,
        DartsMinusConfig,
        PCDartsConfig,
        SDartsConfig,
        GdasConfig,
        DrNasConfig,
        BetaDartsConfig,
        FairDartsConfig,
        SnasConfig,
        LambdaDartsConfig,
        OlesConfig,
        RandomConfig,
        RandomWSConfig,
    )
}
"""By name; `darts_ray.search.methods.register` adds a user's own."""


def parse_method(value: object) -> MethodConfig:
    """Return the values of a method given by its name, or by `{name: NAME, ...}`.

    Raises:
        ValueError: there is no such method, or it has no such values.
    """
    if isinstance(value, MethodConfig):
        return value
    values = {"name": value} if isinstance(value, str) else value
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise ValueError("must be a method's name, or {name: NAME, ...}")
    try:
        import_extensions(values.get("imports", ()), "method.imports")
    except ConfigError as error:
        raise ValueError(str(error)) from error
    name = values["name"]
    model = METHOD_CONFIGS.get(name)
    if model is None:
        close = difflib.get_close_matches(name, METHOD_CONFIGS, n=1, cutoff=0.6)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no method {name!r}; there are: {', '.join(METHOD_CONFIGS)}.{hint}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ValueError(explain(error, model)) from error


AnyMethod: TypeAlias = Annotated[
    SerializeAsAny[MethodConfig],
    BeforeValidator(parse_method),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "examples": list(METHOD_CONFIGS)},
                {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}},
                },
            ]
        }
    ),
]
"""A name, or `{name: NAME, ...}` with the method's own values."""

DartsPTConfig.model_rebuild()
