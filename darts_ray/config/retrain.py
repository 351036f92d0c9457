"""One retraining of a derived network from scratch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

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
from darts_ray.config.recipes import complete_training
from darts_ray.config.search import Device, Precision, RecurrentDropoutConfig
from darts_ray.errors import ConfigError
from darts_ray.space import Genotype, zoo


class ConvNetworkConfig(Model):
    """Size and regularisation of a derived conv network (defaults: CIFAR-10 in the paper)."""

    kind: Literal["conv"] = "conv"
    style: Literal["cifar", "imagenet"] = Field(
        "cifar", description="imagenet: a stem of three stride-2 convs, for large images."
    )
    channels: PositiveInt = 36
    layers: PositiveInt = 20
    auxiliary: bool = Field(True, description="Train a second head after two thirds.")
    auxiliary_weight: NonNegativeFloat = 0.4
    drop_path: Probability = Field(0.2, description="Reached linearly over the epochs.")


class RecurrentNetworkConfig(Model):
    """Size and regularisation of a derived recurrent network (defaults: PTB in the paper)."""

    kind: Literal["recurrent"] = "recurrent"
    embedding_dim: PositiveInt = 850
    hidden_dim: PositiveInt = 850
    dropout: RecurrentDropoutConfig = RecurrentDropoutConfig(word=0.1)
    bptt: PositiveInt = Field(35, description="Mean sequence length in tokens.")
    tar_beta: NonNegativeFloat = 1e-3
    short_sequence_probability: Probability = Field(
        0.05, description="How often a sequence has half the mean length."
    )
    sequence_deviation: NonNegativeFloat = Field(
        5.0, description="Standard deviation of the sequence length in tokens."
    )


NetworkConfig = Annotated[ConvNetworkConfig | RecurrentNetworkConfig, Field(discriminator="kind")]


class RetrainOptimConfig(Model):
    """Optimisation of a derived network."""

    lr: PositiveFloat = 0.025
    schedule: Literal["cosine", "exponential", "constant"] = Field(
        "cosine", description="cosine: to lr_min; exponential: x decay per epoch."
    )
    lr_min: NonNegativeFloat = 0.0
    decay: float = Field(0.97, gt=0, le=1)
    warmup_epochs: NonNegativeInt = 0
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: NonNegativeFloat = 3e-4
    grad_clip: PositiveFloat = 5.0
    label_smoothing: Probability = 0.0
    asgd_patience: PositiveInt | None = Field(
        None,
        description="Switch to averaged SGD when the validation loss has not improved for this"
        " many epochs (text; the paper: 5).",
    )
    stop_patience: PositiveInt | None = Field(
        None,
        description="End before the last epoch when the validation loss has not improved for this"
        " many epochs (text).",
    )
    max_rollbacks: NonNegativeInt = Field(
        3,
        description="Returns to the best weights after non-finite losses, one epoch after the"
        " other, before the run fails (text; images fail at once).",
    )
    accumulate: PositiveInt = Field(
        1, description="Batches per optimiser step; the step's batch is that much larger."
    )


class TrainingRecipe(Model):
    """How any derived network is trained (defaults: CIFAR-10 in the paper)."""

    network: NetworkConfig = ConvNetworkConfig()
    optim: RetrainOptimConfig = RetrainOptimConfig()
    augment: AugmentConfig = AugmentConfig(cutout=16)
    epochs: PositiveInt = 600
    batch_size: PositiveInt = 96
    eval_batch_size: PositiveInt | None = Field(None, description="Default: batch_size.")
    test_batch_size: PositiveInt | None = Field(
        None, description="Default: eval_batch_size. The paper tests text with 1."
    )
    imports: tuple[str, ...] = Field(
        (), description="Python modules to import first; they register own operations."
    )
    max_steps: PositiveInt | None = Field(None, description="Steps per epoch at most.")
    device: Device = Field("auto", description="auto: a GPU when the trial is given one.")
    precision: Precision = Field("float32", description="bfloat16: autocast.")
    channels_last: bool = Field(True, description="Memory layout of images; usually faster.")
    sync_batch_norm: bool = Field(
        False,
        description="Normalise over the batches of all of a trial's workers, not each over its"
        " own (resources.workers_per_trial); slower, as in one process.",
    )
    compile: bool = Field(
        False, description="torch.compile; pays off only for long runs (images)."
    )
    deterministic: bool = Field(
        False, description="Bit-identical repeats on one machine, at some cost on GPUs."
    )


class RetrainConfig(TrainingRecipe):
    """One retraining, complete: what `RetrainTrainable` takes as its param_space."""

    data: DataConfig = DataConfig()
    genotype: str | dict[str, Any] = Field(
        "DARTS_V2", description="A zoo name, or a genotype as JSON or printed text."
    )
    train_portion: Fraction | None = Field(
        None,
        description="Train on this share of train and score the rest after each epoch; the"
        " shares are those of a search with the same data and train_portion. Default: train on"
        " everything (text always scores its own validation part).",
    )
    test_at_end: bool = Field(True, description="Read the test set once, after the last epoch.")
    seed: Seed = 0

    @model_validator(mode="before")
    @classmethod
    def _follow_data(cls, values: object) -> object:
        return complete_training(values)

    @field_validator("genotype")
    @classmethod
    def _readable(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        try:
            _read_genotype(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _kinds_agree(self) -> RetrainConfig:
        recurrent = self.parsed_genotype().skeleton == "language_model"
        if recurrent != (self.network.kind == "recurrent"):
            raise ValueError(f"genotype: does not fit a {self.network.kind} network")
        if self.data.is_text != recurrent:
            raise ValueError(f"data.source: {self.data.source!r} does not fit the genotype")
        if recurrent and self.optim.label_smoothing:
            raise ValueError("optim.label_smoothing: is for images; text trains without it")
        if recurrent and self.compile:
            raise ValueError(
                "compile: is for images; it would compile anew for each length of a sequence"
            )
        if not recurrent and (self.optim.asgd_patience or self.optim.stop_patience):
            raise ValueError("optim.asgd_patience and stop_patience: are for text only")
        return self

    def parsed_genotype(self) -> Genotype:
        """Return the genotype to train."""
        return _read_genotype(self.genotype)


def _read_genotype(value: str | dict[str, Any]) -> Genotype:
    if isinstance(value, dict):
        return Genotype.from_dict(value)
    return zoo[value] if value in zoo else _parse_or_explain(value)


def _parse_or_explain(text: str) -> Genotype:
    if not text.lstrip().startswith(("{", "Genotype")):
        raise ConfigError(f"No published cell is named {text!r}; there are: {', '.join(zoo)}.")
    return Genotype.parse(text)
