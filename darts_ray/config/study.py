"""A whole study: settings x seeds, then selection, retraining and export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from darts_ray.config.base import (
    Fraction,
    Model,
    PositiveInt,
)
from darts_ray.config.data import DataConfig
from darts_ray.config.export import ExportSection
from darts_ray.config.reading.messages import explain
from darts_ray.config.recipes import complete_training, given_values
from darts_ray.config.retrain import RetrainConfig, TrainingRecipe
from darts_ray.config.search import SearchConfig
from darts_ray.config.sections import (
    MUTABLE,
    ResourcesSection,
    TrackingSection,
    TuneSection,
)
from darts_ray.config.seeds import Seeds
from darts_ray.config.space import SpaceConfig
from darts_ray.errors import ConfigError
from darts_ray.location import CREDENTIALS_REMEDY, refuse_user_info

AXIS_KINDS = ("grid", "choice", "uniform", "loguniform")
FOLLOWERS = {"optim.weight_lr_min": "optim.weight_lr"}
"""Search values that are derived from another one where they are not given."""


@dataclass(frozen=True)
class Axis:
    """One searched-over scalar: `grid` and `choice` list values, the others give two bounds."""

    kind: str
    values: tuple[Any, ...]


class SelectSection(TrainingRecipe):
    """A short training of every candidate cell, scored on held-out training data."""

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 96
    train_portion: Fraction = Field(0.5, description="As in search; the rest scores candidates.")
    seeds: Seeds = Field((0,), description="Trainings per candidate; scores are averaged.")


class RetrainSection(TrainingRecipe):
    """The full training of the winner."""

    seeds: Seeds = Field((0,), description="Independent trainings of the winner.")
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
    select: SelectSection | None = None
    retrain: RetrainSection | None = None
    export: ExportSection | None = None
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
        if self.search is None and self.select is not None:
            raise ValueError("select: there is nothing to select from without a search section")
        if self.search is None and self.retrain is not None and self.retrain.genotype is None:
            raise ValueError("retrain.genotype: needed when the study has no search section")
        if self.export is not None and self.retrain is None:
            raise ValueError("export: needs a retrain section, which trains what is exported")
        if self.export is not None and self.data.is_text:
            self.export.check_text()
        trainings = {"select": self.select, "retrain": self.retrain}
        sizes = {name: part.batch_size for name, part in trainings.items() if part is not None}
        self.resources.check_workers(sizes, self.data.is_text)
        if self.search is not None:
            self._check_search()
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
        for setting in _one_by_one(axes):
            self.search_config(setting, self.seeds[0])
        if self.tune.searcher == "optuna" and not axes:
            raise ConfigError(
                "tune.searcher: optuna needs at least one axis in the search section, such as"
                " optim.xi: {loguniform: [0.001, 0.1]}."
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
        trial = self.search_config(next(_one_by_one(axes)), self.seeds[0])
        complete = trial.model_dump(mode="json", exclude={"data", "seed"})
        return self.model_copy(update={"search": _write_out(self.search, complete, axes, "")})

    def search_axes(self) -> dict[str, Axis]:
        """Return the searched-over scalars by dotted name, such as `optim.xi`."""
        return dict(_find_axes(self.search or {}, ""))

    def search_config(self, setting: Mapping[str, Any], seed: int) -> SearchConfig:
        """Return the trial that a value per axis and a seed describe.

        Raises:
            ConfigError: the values do not make a valid search.
        """
        values = _fill(self.search or {}, setting, "")
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
        recipe = self.retrain.model_dump(exclude={"seeds", "genotype"})
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
        for setting in _one_by_one(self.search_axes(), within="space"):
            space = self.search_config(setting, self.seeds[0]).space
            if isinstance(space, SpaceConfig):
                yield from space.imports


def _one_by_one(axes: Mapping[str, Axis], within: str = "") -> Iterator[dict[str, Any]]:
    """Yield the setting of all first values, then those that differ from it in one value.

    Args:
        axes: by dotted name.
        within: vary only the axes of this section; empty: all.
    """
    first = {name: axis.values[0] for name, axis in axes.items()}
    yield first
    for name, axis in axes.items():
        if not within or name.partition(".")[0] == within:
            for value in axis.values[1:]:
                yield {**first, name: value}


def _find_axes(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Axis]]:
    for key, value in values.items():
        if not isinstance(value, Mapping):
            continue
        name = f"{prefix}{key}"
        if len(value) == 1 and (kind := next(iter(value))) in AXIS_KINDS:
            yield name, _axis(f"search.{name}", kind, value[kind])
        else:
            yield from _find_axes(value, f"{name}.")


def _axis(where: str, kind: str, values: object) -> Axis:
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"{where}.{kind}: must be a list with at least one value.")
    if kind in ("uniform", "loguniform"):
        try:
            low, high = (float(value) for value in values)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{where}.{kind}: must be two numbers [low, high].") from error
        if not low < high or (kind == "loguniform" and low <= 0):
            above = "0 < low < high" if kind == "loguniform" else "low < high"
            raise ConfigError(f"{where}.{kind}: needs {above}, not {list(values)}.")
        return Axis(kind, (low, high))
    return Axis(kind, tuple(values))


def _fill(values: Mapping[str, Any], setting: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Replace every axis by the setting's value."""
    filled: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name in setting:
            filled[key] = setting[name]
        elif isinstance(value, Mapping):
            filled[key] = _fill(value, setting, f"{name}.")
        else:
            filled[key] = value
    return filled


def _write_out(
    given: Mapping[str, Any], complete: Mapping[str, Any], axes: Mapping[str, Axis], prefix: str
) -> dict[str, Any]:
    """Complete what is given, in its order: the order of the axes names the trials."""
    written: dict[str, Any] = {}
    for key, value in given.items():
        name = f"{prefix}{key}"
        if name in axes:
            written[key] = value
        elif isinstance(value, Mapping):
            written[key] = _write_out(value, complete[key], axes, f"{name}.")
        else:
            written[key] = complete[key]
    for key, value in complete.items():
        if key not in given and FOLLOWERS.get(f"{prefix}{key}") not in axes:
            written[key] = value
    return written
