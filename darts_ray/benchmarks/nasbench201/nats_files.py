"""Reads the files of NATS-Bench's topology space: one per cell, or one with everything.

Their format is that of the package `nats_bench` (MIT), which is not used: it loads pickles without
restriction, so a file from elsewhere could run any code. A cell is a dict from `"12"` and `"200"`
epochs to the state of its results, whose `dataset_seed` names the seeds of a dataset and whose
`all_results` holds, by dataset and seed, the accuracy of each evaluated set after each epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from darts_ray.benchmarks.nasbench201.plain_pickle import read_plain_pickle
from darts_ray.benchmarks.nasbench201.table import COLUMNS, ColumnTable, Table, column_name
from darts_ray.errors import ConfigError

META_FILE = "meta.pickle.pbz2"

_SETS: dict[str, tuple[str, str, str]] = {
    # trained on all 50,000 images; what tables report
    column_name("cifar10", "200"): ("200", "cifar10", "ori-test"),
    column_name("cifar100", "200"): ("200", "cifar100", "x-test"),
    column_name("imagenet16-120", "200"): ("200", "ImageNet16-120", "x-test"),
    # why cifar10-valid: only there is the validation half held out
    column_name("cifar10", "12"): ("12", "cifar10-valid", "x-valid"),
    column_name("cifar100", "12"): ("12", "cifar100", "x-valid"),
    column_name("imagenet16-120", "12"): ("12", "ImageNet16-120", "x-valid"),
}
"""Per column: epochs, dataset and evaluated set, as the benchmark spells them."""

_SOURCE = (
    "NATS-Bench topology space (Dong et al. 2021), read from {path}; accuracy in percent, mean"
    " over the seeds of each cell; *_test: 200 epochs; *_valid_12_epochs: 12 epochs"
)


class NatsFolder(Table):
    """A folder such as `NATS-tss-v1_0-3ffb9-simple`; a cell's file is read when it is asked for.

    Args:
        path: of the folder.

    Raises:
        ConfigError: it has no readable `meta.pickle.pbz2`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        meta_file = path / META_FILE
        if not meta_file.is_file():
            raise ConfigError(
                f"{path}: is a folder without {META_FILE}; name the folder of NATS-Bench that"
                " holds it, such as NATS-tss-v1_0-3ffb9-simple."
            )
        archs = _cells(read_plain_pickle(meta_file), meta_file)
        super().__init__(str(path), archs, _SOURCE.format(path=path))
        self._read: dict[int, dict[str, float]] = {}

    def _columns(self) -> list[str]:
        first = next((n for n in range(len(self.archs)) if self._file(n) is not None), None)
        return [] if first is None else list(self._cell(first))

    def _value(self, number: int, column: str) -> float:
        cell = self._cell(number)
        if column not in cell:
            raise self._gap(number, column)
        return cell[column]

    def _column(self, column: str) -> npt.NDArray[np.float64]:
        if column not in self._columns():
            raise self._without(column)
        cells = (self._cell(number) for number in range(len(self.archs)))
        return np.array([cell.get(column, np.nan) for cell in cells])

    def _lacking(self, column: str) -> list[int]:
        if column not in self._columns():
            raise self._without(column)
        names = {place.name for place in self._path.iterdir()}
        return [n for n in range(len(self.archs)) if not names & set(_file_names(n))]

    def _file(self, number: int) -> Path | None:
        places = (self._path / name for name in _file_names(number))
        return next((place for place in places if place.is_file()), None)

    def _cell(self, number: int) -> dict[str, float]:
        """Return a cell's accuracies by column; none where it has no file."""
        if number not in self._read:
            place = self._file(number)
            if place is None:
                return {}
            results = read_plain_pickle(place)
            self._read[number] = _accuracies(results, self.archs[number], str(place))
        return self._read[number]


def read_nats_file(path: Path) -> ColumnTable:
    """Return the table in a file such as `NATS-tss-v1_0-3ffb9.pickle.pbz2`.

    The file holds every curve of every training, so reading it takes minutes and gigabytes of
    memory; of the table only the accuracies stay.

    Raises:
        ConfigError: the file is damaged or something else.
    """
    content = read_plain_pickle(path)
    archs = _cells(content, path)
    results = content.get("arch2infos")
    if not isinstance(results, Mapping):
        raise _unlike(path, "it has no `arch2infos`")
    rows = np.full((len(COLUMNS), len(archs)), np.nan)
    for number, cell in results.items():
        if not isinstance(number, int) or not 0 <= number < len(archs):
            raise _unlike(path, f"`arch2infos` has a cell {number!r}")
        found = _accuracies(cell, archs[number], f"{path}, cell {number}")
        rows[:, number] = [found.get(column, np.nan) for column in COLUMNS]
    columns = {
        name: row for name, row in zip(COLUMNS, rows, strict=True) if not np.isnan(row).all()
    }
    return ColumnTable(str(path), archs, _SOURCE.format(path=path), columns)


def _cells(content: Any, path: Path) -> list[str]:
    archs = content.get("meta_archs") if isinstance(content, Mapping) else None
    if not isinstance(archs, list | tuple):
        raise _unlike(path, "it has no `meta_archs`, the list of cells")
    return list(archs)


def _accuracies(results: Any, arch: str, place: str) -> dict[str, float]:
    """Return a cell's accuracies by column, means over seeds; those that there are."""
    if not isinstance(results, Mapping):
        raise _unlike(place, "it holds no results by number of epochs")
    found = {}
    for column, (epochs, dataset, evaluated) in _SETS.items():
        try:
            if epochs not in results or dataset not in results[epochs]["dataset_seed"]:
                continue
            state = results[epochs]
            if state["arch_str"] != arch:
                raise _unlike(place, f"it holds the cell {state['arch_str']}, not {arch}")
            trainings = [state["all_results"][dataset, s] for s in state["dataset_seed"][dataset]]
            # the key of the last epoch, as epochs are counted from 0
            keys = [f"{evaluated}@{training['epochs'] - 1}" for training in trainings]
            values = [t["eval_acc1es"][key] for t, key in zip(trainings, keys, strict=True)]
            found[column] = fmean(values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise _unlike(place, f"{epochs} epochs, {dataset}: {problem}") from error
    if not all(0 <= value <= 100 for value in found.values()):
        raise _unlike(place, "an accuracy is not from 0 to 100")
    return found


def _file_names(number: int) -> tuple[str, str]:
    return f"{number:06d}.pickle.pbz2", f"{number}.pickle.pbz2"


def _unlike(place: str | Path, problem: str) -> ConfigError:
    return ConfigError(f"{place}: is no file of NATS-Bench's topology space: {problem}.")
