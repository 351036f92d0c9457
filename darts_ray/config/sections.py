"""The sections of a study that say how it runs, not what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from darts_ray.config.base import (
    Model,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from darts_ray.errors import ConfigError
from darts_ray.location import refuse_user_info

MUTABLE = ("optim.weight_lr", "optim.alpha_lr", "optim.xi")
"""What population based training may change in mid-run."""


class TrackingSection(Model):
    """MLflow."""

    enabled: bool = True
    uri: str | None = Field(
        None,
        description="Tracking URI; default: MLFLOW_TRACKING_URI of the environment, else an SQLite"
        " file in the output folder.",
    )
    experiment: str | None = Field(
        None,
        description="Default: MLFLOW_EXPERIMENT_NAME of the environment, else the study's name.",
    )
    registered_model: str | None = Field(
        None, description="Name in the model registry; default: the study's name."
    )
    figures: NonNegativeInt | Literal["all"] = Field(
        12,
        description="Of how many searches MLflow gets pictures of the cells and of the course of"
        " the alphas; a resume adds those that are missing.",
    )
    system_metrics: bool = Field(
        False,
        description="Write every 10 seconds how busy the driver's machine is: CPU, memory, disk,"
        " network, and GPUs where `nvidia-ml-py` is installed.",
    )

    @field_validator("uri")
    @classmethod
    def _without_secrets(cls, uri: str | None) -> str | None:
        if uri is not None:
            refuse_user_info(
                uri,
                "tracking.uri",
                "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
                " MLFLOW_TRACKING_TOKEN, in the environment; a database is best reached through"
                " an MLflow server.",
            )
        return uri


class BenchmarkSection(Model):
    """Published accuracies of the derived cells, looked up without training (NAS-Bench-201)."""

    enabled: bool | None = Field(
        None, description="Default: where the searched space has a published table."
    )
    datasets: tuple[Literal["cifar10", "cifar100", "imagenet16-120"], ...] | None = Field(
        None,
        min_length=1,
        description="Whose test accuracies; default: cifar100 for searches on CIFAR-100, else"
        " cifar10.",
    )
    table: str | None = Field(
        None,
        description="The accuracies: NATS-Bench's own folder or file, or a .parquet file with"
        " columns like the shipped table's, on the machine that runs the study; null: the shipped"
        " table.",
    )

    @field_validator("table")
    @classmethod
    def _is_a_path(cls, table: str | None) -> str | None:
        if table is not None and "://" in table and not table.startswith("file://"):
            raise ValueError("must be a path; copy the table to the machine that runs the study")
        return table


class ResourcesSection(Model):
    """What each trial gets, and where the study runs."""

    cpus_per_trial: PositiveFloat = 1.0
    gpus_per_trial: NonNegativeFloat = Field(
        0.0, description="A fraction shares one GPU between trials (memory is not isolated)."
    )
    workers_per_trial: PositiveInt = Field(
        1,
        description="Processes that train one network together (select and retrain; images); each"
        " gets the CPUs and GPUs above. batch_size stays the whole batch.",
    )
    max_concurrent: PositiveInt | None = Field(None, description="Trials at a time at most.")
    wait_s: NonNegativeFloat | None = Field(
        None,
        description="Seconds to wait for a node that a trial fits on; default: 900 on clusters"
        " that `ray up` or KubeRay made, 0 elsewhere.",
    )
    address: str | None = Field(
        None, description="Ray cluster; default: the one this runs in, else an embedded Ray."
    )

    @field_validator("gpus_per_trial")
    @classmethod
    def _at_most_one(cls, gpus: float) -> float:
        if gpus > 1:
            raise ValueError(
                "a trial uses one GPU, so more would stand idle; give 1, or a fraction to share"
                " a GPU between trials"
            )
        return gpus

    def check_workers(self, batch_sizes: Mapping[str, int], is_text: bool) -> None:
        """Insist that a trial can have so many workers.

        Args:
            batch_sizes: of the select and retrain sections that a study has.
            is_text: whether it trains on text.

        Raises:
            ConfigError: it cannot; the message says what can.
        """
        workers = self.workers_per_trial
        if workers == 1:
            return
        name = f"resources.workers_per_trial: {workers}"
        if not batch_sizes:
            raise ConfigError(
                f"{name} workers train a network of the select and retrain stages, and this study"
                " only searches, which takes one process per search; leave it out, and run seeds"
                " side by side instead."
            )
        if is_text:
            raise ConfigError(f"{name} workers are for images; text is trained by one worker.")
        if 0 < self.gpus_per_trial < 1:
            raise ConfigError(
                f"{name} workers cannot share a GPU; set resources.gpus_per_trial to 1 (for each"
                " worker) or 0."
            )
        for section, size in batch_sizes.items():
            if size % workers:
                raise ConfigError(
                    f"{name} does not divide {section}.batch_size ({size}), which is that of all"
                    " workers together; set one to a multiple of the other."
                )

    def workers_in(self, stage: str) -> int:
        """Return how many workers a trial of this stage has; searches have one."""
        return 1 if stage == "search" else self.workers_per_trial


class TuneClass(Model):
    """A scheduler or searcher of Ray Tune, or one of your own."""

    type: str = Field(
        pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$",
        description="Dotted path of the class, such as `ray.tune.schedulers.HyperBandScheduler`.",
    )
    args: dict[str, Any] = Field(
        {},
        description="What it is made with. Metric and mode are the study's, `time_attr` is"
        " `training_iteration` (epochs) and `max_t` the epochs of a search unless given.",
    )
    python: bool = Field(
        False,
        description="`run_study(scheduler=)` or `(search_alg=)` was given an object of this class,"
        " which a YAML file cannot hold; `resume_study` needs one again.",
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> TuneClass:
        if self.python and self.args:
            raise ValueError("args belong to a class that is made here, not to a Python object")
        return self

    @property
    def name(self) -> str:
        """The class's own name."""
        return self.type.rpartition(".")[2]


def _kind(value: object) -> str:
    return "word" if isinstance(value, str) else "class"


_Class = Annotated[TuneClass, Tag("class")]
_Scheduler = Annotated[Literal["fifo", "asha", "pbt"], Tag("word")]
_Searcher = Annotated[Literal["none", "optuna"], Tag("word")]


class TuneSection(Model):
    """How Ray Tune runs the search trials, and what happens when one breaks."""

    scheduler: Annotated[_Scheduler | _Class, Discriminator(_kind)] = Field(
        "fifo", description="Robustness studies need fifo: early stopping biases the seeds."
    )
    searcher: Annotated[_Searcher | _Class, Discriminator(_kind)] = Field(
        "none",
        description="Chooses num_samples settings one after the other; all seeds share each, and"
        " it sees their mean score.",
    )
    num_samples: PositiveInt = Field(1, description="Draws of the sampled axes.")
    max_failures: NonNegativeInt = Field(
        3, description="Restarts of a trial that breaks, counted anew from each later checkpoint."
    )
    checkpoint_every: PositiveInt = Field(1, description="Epochs between checkpoints.")
    keep_checkpoints: int = Field(2, ge=2, description="Newest checkpoints kept per trial.")
    perturbation_interval: PositiveInt = Field(5, description="Epochs; pbt only.")
    grace_period: PositiveInt = Field(5, description="Epochs before asha may stop a trial.")

    @field_validator("scheduler", "searcher", mode="before")
    @classmethod
    def _a_word_or_a_class(cls, value: object, info: ValidationInfo) -> object:
        words, module = {
            "scheduler": (("fifo", "asha", "pbt"), "ray.tune.schedulers"),
            "searcher": (("none", "optuna"), "ray.tune.search"),
        }[str(info.field_name)]
        if isinstance(value, dict | TuneClass) or value in words:
            return value
        raise ValueError(
            f"must be {', '.join(words)} or a class of Tune's or of your own:"
            f" {{type: {module}.NAME, args: {{...}}}}"
        )

    @property
    def scheduler_name(self) -> str:
        """How texts name the scheduler."""
        return self.scheduler if isinstance(self.scheduler, str) else self.scheduler.name

    @property
    def searcher_name(self) -> str:
        """How texts name the searcher."""
        return self.searcher if isinstance(self.searcher, str) else self.searcher.name
