"""The published accuracies of all 15,625 cells of NAS-Bench-201 (NATS-Bench's topology space).

The shipped table holds facts that Dong and Yang published (NAS-Bench-201, ICLR 2020; NATS-Bench,
TPAMI 2021; MIT licence): test accuracy after 200 epochs, the mean over the benchmark's seeds, and
validation accuracy after 12 epochs, of one seed. About half of the cells have two seeds only.
Accuracies are in percent. Every function takes another table as well: NATS-Bench's own files, or
one with the same columns, as `open_table` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from darts_ray.benchmarks.nasbench201.opening import open_table
from darts_ray.benchmarks.nasbench201.table import (
    DATASETS,
    Budget,
    ColumnTable,
    Table,
    shipped_table,
)
from darts_ray.errors import ConfigError
from darts_ray.space import Genotype, arch_string

__all__ = [
    "ALL_CONV3X3",
    "ALL_SKIP",
    "DATASETS",
    "RESNET_LIKE",
    "Budget",
    "ColumnTable",
    "Table",
    "accuracies",
    "accuracy",
    "genotype",
    "index",
    "open_table",
    "optimum",
    "quantiles",
    "random_mean_and_std",
    "rank",
    "shipped_table",
    "source",
]

ALL_CONV3X3 = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
"""No search at all: 93.76 % on CIFAR-10, more than most published searches find."""

RESNET_LIKE = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
"""Three convolutions in a row and a skip over them: 94.04 % on CIFAR-10."""

ALL_SKIP = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+" + (
    "|skip_connect~0|skip_connect~1|skip_connect~2|"
)
"""What collapsed searches return: 54.30 % on CIFAR-10."""


def accuracy(
    cell: Genotype | str,
    dataset: str = "cifar10",
    *,
    budget: Budget = "200",
    table: Table | None = None,
) -> float:
    """Return a cell's published accuracy in percent.

    Args:
        cell: a genotype of the space, an architecture string, or a text that holds one.
        dataset: `cifar10`, `cifar100` or `imagenet16-120`, also as the benchmark spells them.
        budget: see `Budget`.
        table: default: the shipped one; of a folder only the cell's own file is read.

    Raises:
        ConfigError: the cell does not parse or is not of the space, or the table lacks it or the
            dataset.
    """
    return _or_shipped(table).accuracy(index(cell, table=table), dataset, budget)


def accuracies(
    dataset: str = "cifar10", *, budget: Budget = "200", table: Table | None = None
) -> npt.NDArray[np.float64]:
    """Return the accuracy of every cell, in the table's order, which is the benchmark's.

    Raises:
        ConfigError: the table lacks the dataset or the budget.
    """
    return _or_shipped(table).accuracies(dataset, budget)


def rank(cell: Genotype | str, dataset: str = "cifar10", *, table: Table | None = None) -> int:
    """Return how many cells are better, plus one: 1 is the best of 15,625."""
    values = accuracies(dataset, table=table)
    return int((values > values[index(cell, table=table)]).sum()) + 1


def optimum(dataset: str = "cifar10", *, table: Table | None = None) -> tuple[Genotype, float]:
    """Return the best cell and its accuracy."""
    values = accuracies(dataset, table=table)
    best = int(values.argmax())
    return genotype(best, table=table), float(values[best])


def quantiles(
    dataset: str = "cifar10",
    shares: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.9, 0.99),
    *,
    table: Table | None = None,
) -> dict[float, float]:
    """Return quantiles of the accuracy of a uniformly random cell.

    Raises:
        ConfigError: a share is not between 0 and 1.
    """
    if any(not 0 <= share <= 1 for share in shares):
        raise ConfigError(f"NAS-Bench-201: quantiles are from 0 to 1, not {list(shares)}.")
    values = accuracies(dataset, table=table)
    return {share: float(np.quantile(values, share)) for share in shares}


def random_mean_and_std(
    dataset: str = "cifar10", *, table: Table | None = None
) -> tuple[float, float]:
    """Return mean and standard deviation of the accuracy of a uniformly random cell."""
    values = accuracies(dataset, table=table)
    return float(values.mean()), float(values.std())


def index(cell: Genotype | str, *, table: Table | None = None) -> int:
    """Return a cell's number in the table, which is the benchmark's.

    Raises:
        ConfigError: the cell does not parse, is not of the space, or the table lacks it.
    """
    parsed = Genotype.parse(cell) if isinstance(cell, str) else cell
    text = arch_string(parsed)
    number = _or_shipped(table).number_of(text)
    if number is not None:
        return number
    if table is not None and shipped_table().number_of(text) is not None:
        raise ConfigError(f"{table.name}: lacks the cell {text}; name a complete table.")
    raise ConfigError(
        f"NAS-Bench-201: {text} is no cell of the space: 3 nodes, and on each of the 6 edges"
        " none, skip_connect, nor_conv_1x1, nor_conv_3x3 or avg_pool_3x3."
    )


def genotype(number: int, *, table: Table | None = None) -> Genotype:
    """Return the cell of a number.

    Raises:
        ConfigError: the number is not from 0 to 15,624, or the last of the table.
    """
    archs = _or_shipped(table).archs
    if not 0 <= number < len(archs):
        raise ConfigError(f"NAS-Bench-201: cells are numbered from 0 to {len(archs) - 1}.")
    return Genotype.parse(archs[number])


def source(table: Table | None = None) -> str:
    """Return where the numbers come from, as the table says it."""
    return _or_shipped(table).source


def _or_shipped(table: Table | None) -> Table:
    return shipped_table() if table is None else table
