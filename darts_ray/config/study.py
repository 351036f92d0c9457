"""A whole study: settings x seeds, then selection, retraining and export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from darts_ray.config.base import (
    Fraction,
    Model,
    PositiveInt,
)
from darts_ray.config.data import DataConfig
from darts_ray.config.export import ExportSection
from darts_ray.config.reading.axes import Axis, fill, find_axes, one_by_one, write_out
from darts_ray.config.reading.messages import explain
from darts_ray.config.recipes import complete_training, given_values
from darts_ray.config.retrain import RetrainConfig, TrainingRecipe
from darts_ray.config.search import SearchConfig
from darts_ray.config.sections import (
    MUTABLE,
    BenchmarkSection,
    ResourcesSection,
    TrackingSection,
    TuneSection,
)
from darts_ray.config.seeds import Seeds
from darts_ray.config.space import SpaceConfig
from darts_ray.errors import ConfigError
from darts_ray.location import CREDENTIALS_REMEDY, refuse_user_info
from darts_ray.space import spaces


class SelectSection(TrainingRecipe):
    """A short training of every candidate cell, scored on held-out training data."""

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 96
    train_portion: Fraction = Field(0.5, description="As in search; the rest scores candidates.")
    seeds: Seeds = Field((0,), description="Trainings per candidate; scores are averaged.")


class TopCells(Model):
    """The best distinct cells, by the score that also chooses the winner."""

    top: PositiveInt = Field(description="How many cells; the winner is the first.")


class RetrainSection(TrainingRecipe):
    """The full training of the winner, of the best cells, or of every search's own cell."""

    cells: Literal["winner", "each"] | TopCells = Field(
        "winner",
        description="each: the cell of every finished search, so that methods are compared by"
        " test scores over searches; {top: k}: the k best distinct cells. A cell that several"
        " searches derived is trained once per seed. Only the winner is exported.",
    )
    seeds: Seeds = Field((0,), description="Independent trainings of each cell.")
    genotype: str | dict[str, Any] | None = Field(
        None, description="Retrain this cell instead of the study's winner."
    )


class StudyConfig(Model):
    """Everything `darts-ray study` needs; a section that is left out is a stage not run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the folder.")
    output: str = Field("runs", description="Folder or URI (s3://...) that holds the study.")
    data: DataConfig = DataConfig()
    seeds: Seeds = Field((0,), description="Independent searches of every setting.")
    search: dict[str, Any] | None = Field(
        None, description="A SearchConfig without data and seed; any scalar may be an axis."
    )
    benchmark: BenchmarkSection = BenchmarkSection()
    select: SelectSection | None = None
    retrain: RetrainSection | None = None
    export: ExportSection | None = None
    baseline: str | None = Field(
        None,
        description="Name of a method, or text of a setting, to which the report relates all"
        " others; default: random, where the study has it.",
    )
    tracking: TrackingSection = TrackingSection()
    resources: ResourcesSection = ResourcesSection()
    tune: TuneSection = TuneSection()

    @model_validator(mode="before")
    @classmethod
    def _follow_data(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for section in ("select", "retrain"):
            given = given_values(values.get(section))
            if isinstance(given, dict):
                if "data" in given:
                    raise ConfigError(f"{section}.data: give 'data' at the top level instead.")
                given = {"data": values.get("data"), **given}
                if section == "select":  # it is short, whatever the data are
                    given.setdefault("epochs", SelectSection.model_fields["epochs"].default)
                complete = complete_training(given)
                assert isinstance(complete, dict)
                values[section] = {k: v for k, v in complete.items() if k != "data"}
        return values

    @field_validator("output")
    @classmethod
    def _without_secrets(cls, output: str) -> str:
        refuse_user_info(output, "output", CREDENTIALS_REMEDY)
        return output

    @model_validator(mode="after")
    def _check_stages(self) -> StudyConfig:
        if self.search is None and self.retrain is None:
            raise ValueError("a study needs a search section, a retrain section or both")
        if self.search is None and self.baseline is not None:
            raise ValueError("baseline: there is nothing to relate without a search section")
        if self.search is None and self.select is not None:
            raise ValueError("select: there is nothing to select from without a search section")
        if self.search is None and self.retrain is not None and self.retrain.genotype is None:
            raise ValueError("retrain.genotype: needed when the study has no search section")
        if self.retrain is not None and self.retrain.cells != "winner":
            if self.search is None or self.retrain.genotype is not None:
                raise ValueError(
                    "retrain.cells: 'each' and 'top' choose among the cells of searches; leave it"
                    " out where retrain.genotype names the cell"
                )
        if self.export is not None and self.retrain is None:
            raise ValueError("export: needs a retrain section, which trains what is exported")
        if self.export is not None:
            (self.export.check_text if self.data.is_text else self.export.check_images)()
        trainings = {"select": self.select, "retrain": self.retrain}
        sizes = {name: part.batch_size for name, part in trainings.items() if part is not None}
        self.resources.check_workers(sizes, self.data.is_text)
        if self.search is not None:
            self._check_search()
        named = (self.benchmark.datasets, self.benchmark.table)
        asked = self.benchmark.enabled or any(value is not None for value in named)
        if asked and not self.benchmark_datasets:
            raise ValueError(
                "benchmark: is switched off, or no searched space has a published table (that of"
                " NAS-Bench-201, search.space: nasbench201, has one)"
            )
        if self.retrain is not None and self.retrain.genotype is not None:
            self.retrain_config(self.retrain.genotype, self.retrain.seeds[0])
        return self

    def _check_search(self) -> None:
        assert self.search is not None
        for fixed in ("data", "seed"):
            if fixed in self.search:
                top = "data" if fixed == "data" else "seeds"
                raise ConfigError(f"search.{fixed}: give {top!r} at the top level instead.")
        axes = self.search_axes()
        unsuitable: dict[str, None] = {}  # in order, each message once
        for setting in one_by_one(axes):
            try:
                self.search_config(setting, self.seeds[0])
            except ConfigError as error:
                unsuitable[str(error)] = None
        if unsuitable:
            raise ConfigError("\n".join(unsuitable))
        if self.tune.searcher != "none" and not axes:
            raise ConfigError(
                f"tune.searcher: {self.tune.searcher_name} needs at least one axis in the search"
                " section, such as optim.xi: {loguniform: [0.001, 0.1]}."
            )
        if self.tune.scheduler == "pbt" and not set(MUTABLE) & set(axes):
            raise ConfigError(
                "tune.scheduler: pbt changes learning rates in mid-run; make at least one of"
                f" {', '.join(f'search.{name}' for name in MUTABLE)} an axis, such as"
                " {loguniform: [0.01, 0.1]}."
            )

    def resolved(self) -> StudyConfig:
        """Return the same study with every default of the search section written out.

        Axes stay as they were given, whole sections among them; what would follow an axis (a
        `weight_lr_min` that is not given follows `weight_lr`) stays unwritten.
        """
        if self.search is None:
            return self
        axes = self.search_axes()
        trial = self.search_config(next(one_by_one(axes)), self.seeds[0])
        complete = trial.model_dump(mode="json", exclude={"data", "seed"})
        return self.model_copy(update={"search": write_out(self.search, complete, axes, "")})

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that this study has, in order."""
        present = {
            "search": self.search is not None,
            "benchmark": bool(self.benchmark_datasets),
            "select": self.select is not None,
            "retrain": self.retrain is not None,
            "export": self.export is not None,
            "report": True,
        }
        return tuple(stage for stage, is_there in present.items() if is_there)

    @property
    def benchmark_datasets(self) -> tuple[str, ...]:
        """Whose published accuracies are looked up; none without the benchmark stage."""
        if self.search is None or self.benchmark.enabled is False:
            return ()
        table = spaces["nasbench201"].cells
        searches = (
            self.search_config(setting, self.seeds[0])
            for setting in one_by_one(self.search_axes(), within="space")
        )
        if not any(search.search_space().cells == table for search in searches):
            return ()
        default = "cifar100" if self.data.source == "cifar100" else "cifar10"
        return self.benchmark.datasets or (default,)

    @property
    def judges_each(self) -> bool:
        """Whether every search's own cell is retrained, so that test scores compare methods."""
        return self.retrain is not None and self.retrain.cells == "each"

    def search_axes(self) -> dict[str, Axis]:
        """Return the searched-over scalars by dotted name, such as `optim.xi`."""
        return dict(find_axes(self.search or {}, ""))

    def search_config(self, setting: Mapping[str, Any], seed: int) -> SearchConfig:
        """Return the trial that a value per axis and a seed describe.

        Raises:
            ConfigError: the values do not make a valid search.
        """
        values = fill(self.search or {}, setting, "")
        try:
            return SearchConfig.model_validate({**values, "data": self.data, "seed": seed})
        except ValidationError as error:
            raise ConfigError(explain(error, SearchConfig, prefix="search")) from error

    def select_config(self, genotype: str | dict[str, Any], seed: int) -> RetrainConfig:
        """Return the short training of one candidate; it never reads the test set."""
        assert self.select is not None
        recipe = self.select.model_dump(exclude={"seeds"})
        return self._retrain("select", {**recipe, "test_at_end": False}, genotype, seed)

    def retrain_config(self, genotype: str | dict[str, Any], seed: int) -> RetrainConfig:
        """Return the full training of one cell."""
        assert self.retrain is not None
        recipe = self.retrain.model_dump(exclude={"cells", "seeds", "genotype"})
        return self._retrain("retrain", recipe, genotype, seed)

    def _retrain(
        self, section: str, recipe: dict[str, Any], genotype: str | dict[str, Any], seed: int
    ) -> RetrainConfig:
        # the searched cells may hold operations that only these modules register
        imports = tuple(dict.fromkeys([*self._space_imports(), *recipe["imports"]]))
        values = {
            **recipe,
            "data": self.data,
            "genotype": genotype,
            "seed": seed,
            "imports": imports,
        }
        try:
            return RetrainConfig.model_validate(values)
        except ValidationError as error:
            raise ConfigError(explain(error, RetrainConfig, prefix=section)) from error

    def _space_imports(self) -> Iterator[str]:
        """Yield the modules of every space that is searched."""
        if self.search is None:
            return
        for setting in one_by_one(self.search_axes(), within="space"):
            space = self.search_config(setting, self.seeds[0]).space
            if isinstance(space, SpaceConfig):
                yield from space.imports
