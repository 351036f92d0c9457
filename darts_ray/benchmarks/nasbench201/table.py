"""A table of published accuracies: cells in an order, and a column per dataset and budget."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from darts_ray.errors import ConfigError

Budget = Literal["200", "12"]
"""Epochs: `200` is test accuracy, what tables report; `12` is validation accuracy."""

DATASETS = ("cifar10", "cifar100", "imagenet16-120")

_SPELLINGS = {
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "imagenet16120": "imagenet16-120",
    "imagenet16": "imagenet16-120",
}
_OP = "[a-z0-9_]+"
_CELL = re.compile(
    rf"\|{_OP}~0\|\+\|{_OP}~0\|{_OP}~1\|\+\|{_OP}~0\|{_OP}~1\|{_OP}~2\|",
)


def column_name(dataset: str, budget: str) -> str:
    """Return which column holds the accuracies on a dataset.

    Raises:
        ConfigError: the benchmark has no such dataset or budget.
    """
    if budget not in ("200", "12"):
        raise ConfigError(
            f"NAS-Bench-201: budget is {budget!r}; it must be '200' (test) or '12' (validation)."
        )
    key = "".join(letter for letter in dataset.lower() if letter.isalnum())
    if key not in _SPELLINGS:
        raise ConfigError(
            f"NAS-Bench-201: has no accuracies on {dataset!r}; it has {', '.join(DATASETS)}."
        )
    name = _SPELLINGS[key].replace("-", "_")
    return f"{name}_test" if budget == "200" else f"{name}_valid_12_epochs"


COLUMNS = {
    column_name(dataset, budget): f"{kind} accuracies on {dataset} after {budget} epochs"
    for budget, kind in (("200", "test"), ("12", "validation"))
    for dataset in DATASETS
}
"""Every column that a table may have, and what it holds, in words."""


class Table(ABC):
    """Published accuracies of cells, in percent.

    Attributes:
        name: how messages name the table.
        archs: the cells as architecture strings, in the table's order.
        source: where the numbers come from, in words.

    Raises:
        ConfigError: a cell is none of the space, or is there twice.
    """

    def __init__(self, name: str, archs: Sequence[str], source: str) -> None:
        self.name, self.archs, self.source = name, tuple(archs), source
        wrong = next((a for a in archs if not isinstance(a, str) or not _CELL.fullmatch(a)), None)
        if wrong is not None:
            raise ConfigError(
                f"{name}: holds {wrong!r}, which is no cell of NAS-Bench-201; of NATS-Bench's"
                " spaces it is the topology space, files with `tss` in their names."
            )
        self._numbers = {arch: number for number, arch in enumerate(self.archs)}
        if len(self._numbers) != len(self.archs) or not self.archs:
            raise ConfigError(f"{name}: must list cells, each once.")

    def number_of(self, arch: str) -> int | None:
        """Return an architecture string's place in the table; None: it is not there."""
        return self._numbers.get(arch)

    def accuracy(self, number: int, dataset: str = "cifar10", budget: Budget = "200") -> float:
        """Return the accuracy of the cell in a place, in percent.

        Raises:
            ConfigError: the table lacks it, or its file is damaged.
        """
        return self._value(number, column_name(dataset, budget))

    def accuracies(
        self, dataset: str = "cifar10", budget: Budget = "200"
    ) -> npt.NDArray[np.float64]:
        """Return the accuracies of all cells, in percent, in the table's order.

        Raises:
            ConfigError: the table lacks one, or a file of it is damaged.
        """
        column = column_name(dataset, budget)
        values = self._column(column)
        gaps = np.flatnonzero(np.isnan(values))
        if len(gaps):
            raise self._gap(int(gaps[0]), column)
        return values

    def require(
        self, archs: Iterable[str], datasets: Iterable[str], budget: Budget = "200"
    ) -> None:
        """Insist that the table has cells, and accuracies of them; of a folder open one file.

        Raises:
            ConfigError: it lacks some.
        """
        wanted = list(archs)
        absent = [arch for arch in wanted if arch not in self._numbers]
        for dataset in datasets:
            absent += [self.archs[n] for n in self._lacking(column_name(dataset, budget))]
        absent = sorted(set(absent) & set(wanted))
        if absent:
            raise ConfigError(
                f"{self.name}: lacks {len(absent)} of {len(wanted)} cells, such as {absent[0]};"
                " name a complete table."
            )

    def to_arrow(self) -> pa.Table:
        """Return all that the table holds as `index`, `arch` and a column per accuracy.

        Written as Parquet, this is the fastest form that `open_table` reads.

        Raises:
            ConfigError: a file of the table is damaged.
        """
        columns = {
            name: pa.array(self._column(name), from_pandas=True) for name in self._columns()
        }
        first = {"index": pa.array(range(len(self.archs))), "arch": pa.array(self.archs)}
        return pa.table({**first, **columns}).replace_schema_metadata({"source": self.source})

    @abstractmethod
    def _columns(self) -> list[str]:
        """Return the columns that there are, of `COLUMNS`."""

    @abstractmethod
    def _value(self, number: int, column: str) -> float:
        """Return one accuracy, or raise `ConfigError`."""

    @abstractmethod
    def _column(self, column: str) -> npt.NDArray[np.float64]:
        """Return a column, NaN where a cell has no accuracy; raise `ConfigError` without one."""

    @abstractmethod
    def _lacking(self, column: str) -> list[int]:
        """Return the cells without accuracies; raise `ConfigError` where there is no column."""

    def _without(self, column: str) -> ConfigError:
        there = "; ".join(COLUMNS[name] for name in self._columns()) or "nothing"
        return ConfigError(f"{self.name}: has no {COLUMNS[column]}. It has {there}.")

    def _gap(self, number: int, column: str) -> ConfigError:
        return ConfigError(
            f"{self.name}: has no {COLUMNS[column]} of the cell {self.archs[number]} (number"
            f" {number}); name a complete table."
        )


class ColumnTable(Table):
    """A table in memory.

    Args:
        name: how messages name it.
        archs: as the attribute.
        source: as the attribute.
        columns: accuracies in percent by `COLUMNS`, NaN where there is none.

    Raises:
        ConfigError: what it holds is no such table.
    """

    def __init__(
        self,
        name: str,
        archs: Sequence[str],
        source: str,
        columns: Mapping[str, npt.NDArray[np.float64]],
    ) -> None:
        super().__init__(name, archs, source)
        self._content = dict(columns)
        if not columns:
            raise ConfigError(f"{name}: has none of the columns {', '.join(COLUMNS)}.")
        for column, values in columns.items():
            if ((values < 0) | (values > 100)).any():
                raise ConfigError(f"{name}: column {column} must hold accuracies in percent.")

    @classmethod
    def from_arrow(cls, name: str, table: pa.Table) -> ColumnTable:
        """Return the table that has columns as `Table.to_arrow` makes them.

        Raises:
            ConfigError: it lacks the column `arch` or has no accuracies.
        """
        if "arch" not in table.column_names:
            raise ConfigError(f"{name}: has no column `arch`, of architecture strings.")
        columns = {}
        for column in COLUMNS:
            if column in table.column_names:
                try:
                    columns[column] = table[column].cast(pa.float64()).to_numpy()
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                    raise ConfigError(f"{name}: column {column}: {error}.") from error
        source = (table.schema.metadata or {}).get(b"source", name.encode()).decode()
        return cls(name, table["arch"].to_pylist(), source, columns)

    def _columns(self) -> list[str]:
        return list(self._content)

    def _value(self, number: int, column: str) -> float:
        if column not in self._content:
            raise self._without(column)
        value = float(self._content[column][number])
        if np.isnan(value):
            raise self._gap(number, column)
        return value

    def _lacking(self, column: str) -> list[int]:
        lacking: list[int] = np.flatnonzero(np.isnan(self._column(column))).tolist()
        return lacking

    def _column(self, column: str) -> npt.NDArray[np.float64]:
        if column not in self._content:
            raise self._without(column)
        return self._content[column].copy()


@cache
def shipped_table() -> Table:
    """Return the table that comes with the package."""
    place = files("darts_ray").joinpath("benchmarks/data/nasbench201.parquet")
    with as_file(place) as path:
        return ColumnTable.from_arrow("NAS-Bench-201", pq.read_table(Path(path)))
