"""One search: the supernet, its two optimisers and the budget."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from darts_ray.config.base import (
    Fraction,
    Model,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seed,
)
from darts_ray.config.data import AugmentConfig, DataConfig
from darts_ray.config.methods import AnyMethod, DartsConfig
from darts_ray.config.recipes import complete_search
from darts_ray.config.robustness import DropPath, DropPathConfig, EarlyStop
from darts_ray.config.space import SpaceConfig
from darts_ray.errors import ConfigError
from darts_ray.space import SearchSpace, resolve_space

Precision = Literal["float32", "bfloat16"]
Device = Literal["auto", "cpu", "cuda"]


class SearchOptimConfig(Model):
    """How weights and alphas are optimised in a search (defaults: CIFAR-10 in the paper)."""

    weight_lr: PositiveFloat = Field(0.025, description="Initial SGD learning rate of weights.")
    weight_lr_min: NonNegativeFloat = Field(
        0.001, description="Where the cosine schedule ends; equal to weight_lr: constant."
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 3e-4
    grad_clip: PositiveFloat = Field(5.0, description="Largest norm of the weight gradient.")
    alpha_lr: PositiveFloat = Field(3e-4, description="Adam learning rate of alphas.")
    alpha_betas: tuple[Probability, Probability] = (0.5, 0.999)
    alpha_weight_decay: NonNegativeFloat = 1e-3
    order: Literal["first", "unrolled"] = Field(
        "first", description="first: xi = 0; unrolled: one virtual weight step (second order)."
    )
    xi: Literal["weight_lr"] | NonNegativeFloat = Field(
        "weight_lr", description="Virtual step size; weight_lr: the current learning rate."
    )
    hvp: Literal["finite_difference", "exact"] = Field(
        "finite_difference", description="How the second-order term is computed."
    )
    hvp_epsilon: PositiveFloat = Field(
        0.01, description="The finite difference moves the weights by this distance."
    )
    clip_virtual_step: bool | None = Field(
        None,
        description="Clip gradients inside the unrolled step; default: recurrent yes, conv no.",
    )

    @model_validator(mode="after")
    def _check(self) -> SearchOptimConfig:
        if "weight_lr_min" not in self.model_fields_set:
            # A learning rate below the default lower end gives a constant schedule. The value is
            # put past the model's own bookkeeping, as nobody has given it.
            lower = min(self.weight_lr_min, self.weight_lr)
            object.__setattr__(self, "weight_lr_min", lower)
        if self.weight_lr_min > self.weight_lr:
            raise ValueError("weight_lr_min: must not exceed weight_lr")
        return self


class ConvSupernetConfig(Model):
    """Size of a convolutional supernet."""

    kind: Literal["conv"] = "conv"
    channels: PositiveInt = Field(16, description="Channels of the first cell's nodes.")
    layers: PositiveInt = Field(8, description="Number of cells.")
    stem_multiplier: PositiveInt = 3


class RecurrentDropoutConfig(Model):
    """Dropout probabilities of a recurrent network (defaults: PTB in the paper)."""

    output: Probability = Field(0.75, description="On the cell's output sequence.")
    hidden: Probability = Field(0.25, description="On hidden states inside the cell.")
    input: Probability = Field(0.75, description="On the cell's input, one mask per sequence.")
    embedding: Probability = Field(0.2, description="On embedded words, one mask per sequence.")
    word: Probability = Field(0.0, description="Whole rows of the embedding matrix.")


class RecurrentSupernetConfig(Model):
    """Size and regularisation of a recurrent supernet, and its sequences."""

    kind: Literal["recurrent"] = "recurrent"
    embedding_dim: PositiveInt = 300
    hidden_dim: PositiveInt = 300
    dropout: RecurrentDropoutConfig = RecurrentDropoutConfig()
    bptt: PositiveInt = Field(35, description="Mean sequence length in tokens.")
    tar_beta: NonNegativeFloat = Field(
        1e-3, description="Weight of temporal activation regularisation."
    )
    short_sequence_probability: Probability = Field(
        0.05, description="How often a sequence has half the length."
    )


SupernetConfig = Annotated[
    ConvSupernetConfig | RecurrentSupernetConfig, Field(discriminator="kind")
]


class SearchConfig(Model):
    """One search trial, complete: what `SearchTrainable` takes as its param_space."""

    data: DataConfig = DataConfig()
    space: str | SpaceConfig = Field("darts", description="A named space, or one of your own.")
    network: SupernetConfig = ConvSupernetConfig()
    method: AnyMethod = Field(
        DartsConfig(), description="A method's name, or {name: NAME, ...} with its own values."
    )
    drop_path: DropPath = Field(
        DropPathConfig(), description="Of the supernet's edges; conv only. A number, or a section."
    )
    early_stop: EarlyStop | None = Field(
        None, description="eigenvalue, or {rule: eigenvalue, ...}; null: every epoch is run."
    )
    optim: SearchOptimConfig = SearchOptimConfig()
    augment: AugmentConfig = AugmentConfig()
    epochs: PositiveInt = 50
    batch_size: PositiveInt = 64
    eval_batch_size: PositiveInt | None = Field(None, description="Default: batch_size.")
    train_portion: Fraction = Field(
        0.5, description="Share of train that trains weights; the rest trains alphas."
    )
    max_steps: PositiveInt | None = Field(None, description="Steps per epoch at most.")
    hessian_every: NonNegativeInt = Field(
        0,
        description="Epochs between measurements of the dominant eigenvalue of the validation"
        " loss's Hessian in the alphas; 0: never.",
    )
    seed: Seed = 0
    device: Device = Field("auto", description="auto: a GPU when the trial is given one.")
    precision: Precision = Field("float32", description="bfloat16: autocast.")
    compile: bool = Field(False, description="torch.compile; pays off only for long runs.")
    graphs: bool = Field(
        False, description="Replay each step as one CUDA graph; conv searches on a GPU."
    )
    deterministic: bool = Field(
        False, description="Bit-identical repeats on one machine, at some cost on GPUs."
    )

    @model_validator(mode="before")
    @classmethod
    def _follow_data(cls, values: object) -> object:
        return complete_search(values)

    @field_validator("space")
    @classmethod
    def _known_space(cls, value: str | SpaceConfig) -> str | SpaceConfig:
        try:
            resolve_space(value if isinstance(value, str) else value.build())
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _kinds_agree(self) -> SearchConfig:
        skeleton = self.search_space().skeleton
        kind = "recurrent" if skeleton == "language_model" else "conv"
        if self.network.kind != kind:
            raise ValueError(f"network.kind: the space is {kind}, the network {self.network.kind}")
        if self.data.is_text != (kind == "recurrent"):
            raise ValueError(f"data.source: {self.data.source!r} does not fit a {kind} search")
        if self.graphs and kind == "recurrent":
            raise ValueError(
                "graphs: is for conv searches; a recurrent one carries its hidden states, and its"
                " sequences differ in length"
            )
        return self

    @model_validator(mode="after")
    def _method_fits(self) -> SearchConfig:
        object.__setattr__(self, "method", self.method.completed(self))
        self.method.check(self)
        if self.drop_path.probability and self.network.kind != "conv":
            raise ValueError("drop_path: is for conv searches; text has its own dropout (network)")
        if self.drop_path.probability and self.drop_path.cutout and self.augment.cutout:
            raise ValueError(
                "drop_path.cutout: augment.cutout erases a square as well; set one to 0"
            )
        if self.drop_path.probability and self.graphs:
            raise ValueError("graphs: drop path draws random numbers; set graphs: false")
        if self.early_stop is not None and self.compile:
            raise ValueError("compile: cannot differentiate twice, which early_stop needs")
        if self.early_stop is not None and self.method.name == "darts_pt":
            raise ValueError(
                "early_stop: darts_pt decides after the search; stop its base in a search of its"
                " own, or leave early_stop out"
            )
        if self.early_stop is not None and not self.method.trains_alphas:
            raise ValueError(
                f"early_stop: {self.method.name!r} has no alphas to watch; leave it out"
            )
        return self

    @property
    def total_epochs(self) -> int:
        """Epochs of all phases of the method; `epochs` are those of the search itself."""
        return self.method.total_epochs(self)

    def search_space(self) -> SearchSpace:
        """Return the space that the search explores."""
        return resolve_space(self.space) if isinstance(self.space, str) else self.space.build()
