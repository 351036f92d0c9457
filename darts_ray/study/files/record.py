"""The record, genotypes.json: every derived cell with its scores, the winner, the stages.

It is the study's main state and outlives versions: it has types and a format number, and what an
older version wrote is read as if this one had written it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from darts_ray.errors import DamagedFileError, StudyError
from darts_ray.space import Genotype, fingerprint
from darts_ray.study.files.exported import Exported

FORMAT = 1
NO_AXIS = "-"
"""The setting of a study without axes."""
STAGES = ("search", "benchmark", "select", "retrain", "export", "report")
SIDE_STAGES = frozenset({"benchmark"})
"""Stages that only the report reads: nothing is chosen by them."""
TRAINING_STAGES = ("search", "select", "retrain")


def _genotype(value: Any) -> Genotype:
    return value if isinstance(value, Genotype) else Genotype.from_dict(value)


Cell = Annotated[Genotype, PlainValidator(_genotype), PlainSerializer(lambda cell: cell.to_dict())]


def cell_name(genotype: Genotype) -> str:
    """Return a name that follows from the genotype alone, such as `cell-1f3a90c2`."""
    return f"cell-{fingerprint(genotype)[:8]}"


@dataclass(frozen=True)
class SearchEntry:
    """One search that ended with a genotype.

    Attributes:
        trial: its name.
        setting: the values of the axes as text.
        seed: of the search.
        genotype: what it derived.
        validation: the search's own score after its last epoch.
        num_skip: skip connections of the normal cell; None for other cells.
        num_parameters: of the derived network.
        epochs: how many it ran.
        select_scores: of the cell's short trainings, by seed.
        true_accuracy: published test accuracy (0..1) of the cell by dataset; nothing is chosen by
            it.
        stopped: whether a scheduler ended it before its own end; None where an older version wrote
            the entry.
    """

    trial: str
    setting: str
    seed: int
    genotype: Cell
    validation: float | None
    num_skip: int | None
    num_parameters: int
    epochs: int
    select_scores: tuple[float, ...] = ()
    true_accuracy: Mapping[str, float] = field(default_factory=dict)
    stopped: bool | None = None

    @property
    def select_score(self) -> float | None:
        """The mean of the short trainings' scores; None before there is one."""
        return statistics.fmean(self.select_scores) if self.select_scores else None


@dataclass(frozen=True)
class Winner:
    """The selected cell; `trial` and `seed` are None where the configuration names the cell."""

    trial: str | None
    setting: str
    seed: int | None
    genotype: Cell
    reason: str


@dataclass(frozen=True)
class RetrainEntry:
    """One finished retraining.

    Attributes:
        trial: its name.
        cell: name of the cell that was trained, see `cell_name`; `Record.searches_by_cell` tells
            which searches derived it. Empty where a version before formats wrote the entry; the
            cell is the winner's then.
        seed: of the retraining.
        checkpoint: its last checkpoint, relative to the study folder, which may move.
        metrics: the newest value of every number it has reported.
    """

    trial: str
    seed: int
    checkpoint: str | None
    metrics: Mapping[str, float]
    cell: str = ""


@dataclass(frozen=True)
class Failure:
    """One trial that failed for good."""

    stage: str
    trial: str
    setting: str
    seed: int
    error: str


@dataclass(frozen=True)
class StageState:
    """How far a stage is; `seconds` are summed over interruptions."""

    seconds: float = 0.0
    num_trials: int = 0
    finished: bool = False


@dataclass(frozen=True)
class Record:
    """Content of genotypes.json.

    Attributes:
        format: of the file.
        search: finished searches, in the order of the plan.
        winner: the selected cell, with the retrainings and the export that belong to it.
        retrain: finished retrainings, of the winner or of several cells.
        failed: trials that failed.
        stages: those that have begun.
        export: the exported files.
        settings: texts of all settings, in the order of the plan.
        aliases: the name that follows from a search's content to the one that its folder has,
            where an older version named it by its place in the plan.
    """

    format: int = FORMAT
    search: tuple[SearchEntry, ...] = ()
    winner: Winner | None = None
    retrain: tuple[RetrainEntry, ...] = ()
    failed: tuple[Failure, ...] = ()
    stages: Mapping[str, StageState] = field(default_factory=dict)
    export: Exported | None = None
    settings: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def has_finished(self, stage: str) -> bool:
        """Whether a stage is done, and nothing before it has begun anew since."""
        return stage in self.stages and self.stages[stage].finished

    def with_stage(self, stage: str, **changes: Any) -> Record:
        """Return the record with some fields of a stage's state changed."""
        state = replace(self.stages.get(stage, StageState()), **changes)
        return replace(self, stages={**self.stages, stage: state})

    def beginning(self, stage: str, num_trials: int) -> Record:
        """Return the record in which a stage and all that read its result are not done.

        Winner, retrainings and export stay as they are: they belong together, and are replaced
        together once there is another winner.
        """
        position = STAGES.index(stage)
        readers = ("report",) if stage in SIDE_STAGES else STAGES[position:]
        undone = {
            name: replace(state, finished=False) if name in readers else state
            for name, state in self.stages.items()
        }
        return replace(self, stages=undone).with_stage(
            stage, num_trials=num_trials, finished=False
        )

    def with_aliases(self, aliases: Mapping[str, str]) -> Record:
        """Return the record with the names that an older version gave to searches."""
        return replace(self, aliases=aliases)

    def with_winner(self, winner: Winner, *, keeps_retrained: bool = False) -> Record:
        """Return the record with a winner; what belongs to another cell goes in the same step.

        Args:
            winner: the selected cell.
            keeps_retrained: whether retrainings of other cells stay, as they are results of their
                own.
        """
        if self.winner is None or self.winner.genotype == winner.genotype:
            return replace(self, winner=winner)
        retrain = self.retrain if keeps_retrained else ()
        return replace(self, winner=winner, retrain=retrain, export=None)

    @property
    def retrained_winner(self) -> tuple[RetrainEntry, ...]:
        """The retrainings of the winner's cell, of which one is exported."""
        if self.winner is None:
            return ()
        own = cell_name(self.winner.genotype)
        return tuple(entry for entry in self.retrain if entry.cell in ("", own))

    def searches_by_cell(self) -> dict[str, list[SearchEntry]]:
        """Return the searches that derived each cell, by its name, in the order of the plan."""
        found: dict[str, list[SearchEntry]] = {}
        for entry in self.search:
            found.setdefault(cell_name(entry.genotype), []).append(entry)
        return found


_ADAPTER: TypeAdapter[Record] = TypeAdapter(Record)


def record_to_json(record: Record) -> str:
    """Return the text of genotypes.json."""
    values = _ADAPTER.dump_python(record, mode="json")
    trials: dict[str, list[str]] = {}
    for entry, search in zip(values["search"], record.search, strict=True):
        entry["select_score"] = search.select_score  # for readers of the file
        entry["cell"] = cell_name(search.genotype)
        trials.setdefault(entry["cell"], []).append(search.trial)
    for entry in values["retrain"]:
        entry["searches"] = trials.get(entry["cell"], [])
    return json.dumps(values, indent=1, allow_nan=False)


def record_from_json(text: str, place: str) -> Record:
    """Read genotypes.json of this or an older format.

    Raises:
        StudyError: it is no record, or a newer version has written it.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError("it is no object")
        number = values.get("format", 0)
        if isinstance(number, int) and number > FORMAT:
            raise StudyError(
                f"{place}: has format {number}, and this version of darts_ray reads up to"
                f" {FORMAT}. Update darts_ray."
            )
        return _ADAPTER.validate_python(_from_format_0(values) if number == 0 else values)
    except StudyError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _damaged(place, f"{where}: {first['msg']}") from error
    except Exception as error:
        # why all: the text may be anything, and every reason why it is no record is one answer
        raise _damaged(place, str(error)) from error


def _damaged(place: str, reason: str) -> DamagedFileError:
    return DamagedFileError(
        f"{place}: is cut short or altered ({reason}). The trials are untouched;"
        " `darts-ray resume` writes it anew from them."
    )


def _from_format_0(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what version 0.1 wrote, which had no types, in the present format."""
    names = ("trial", "setting", "seed", "genotype", "num_skip", "num_parameters", "epochs")
    searches = [
        {
            **{name: entry[name] for name in names},
            "validation": entry.get("validation_accuracy", entry.get("validation_perplexity")),
            "select_scores": entry.get("select_scores") or (),
        }
        for entry in values.get("search", ())
    ]
    return {
        "search": searches,
        "winner": values.get("winner"),
        "retrain": [
            {
                "trial": entry["trial"],
                "seed": entry["seed"],
                "checkpoint": entry["checkpoint"],
                "metrics": {
                    name: value
                    for name, value in entry.items()
                    if name not in ("trial", "seed", "checkpoint")
                },
            }
            for entry in values.get("retrain", ())
        ],
        "failed": values.get("failed", ()),
        "stages": values.get("stages", {}),
        "export": values.get("export"),
        "settings": tuple(dict.fromkeys(entry["setting"] for entry in searches)),
    }
