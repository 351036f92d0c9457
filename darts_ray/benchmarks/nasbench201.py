"""The published accuracies of all 15,625 cells of NAS-Bench-201 (NATS-Bench's topology space).

The table holds facts that Dong and Yang published (NAS-Bench-201, ICLR 2020; NATS-Bench, TPAMI
2021; MIT licence): test accuracy after 200 epochs, the mean over the benchmark's seeds, and
validation accuracy after 12 epochs, of one seed. About half of the cells have two seeds only.
Accuracies are in percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from darts_ray.errors import ConfigError
from darts_ray.space import Genotype, arch_string

Budget = Literal["200", "12"]
"""Epochs: `200` is test accuracy, what tables report; `12` is validation accuracy."""

DATASETS = ("cifar10", "cifar100", "imagenet16-120")

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

_SPELLINGS = {
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "imagenet16120": "imagenet16-120",
    "imagenet16": "imagenet16-120",
}


def accuracy(cell: Genotype | str, dataset: str = "cifar10", *, budget: Budget = "200") -> float:
    """Return a cell's published accuracy in percent.

    Args:
        cell: a genotype of the space, an architecture string, or a text that holds one.
        dataset: `cifar10`, `cifar100` or `imagenet16-120`, also as the benchmark spells them.
        budget: see `Budget`.

    Raises:
        ConfigError: the cell does not parse or is not of the space, or the table lacks the
            dataset.
    """
    return float(accuracies(dataset, budget=budget)[index(cell)])


def accuracies(dataset: str = "cifar10", *, budget: Budget = "200") -> npt.NDArray[np.float64]:
    """Return the accuracy of every cell, in the benchmark's order.

    Raises:
        ConfigError: the table lacks the dataset or the budget.
    """
    if budget not in ("200", "12"):
        raise ConfigError(
            f"NAS-Bench-201: budget is {budget!r}; it must be '200' (test) or '12' (validation)."
        )
    name = _dataset(dataset).replace("-", "_")
    column = f"{name}_test" if budget == "200" else f"{name}_valid_12_epochs"
    values: npt.NDArray[np.float64] = _table()[column].to_numpy().astype(np.float64)
    return values


def rank(cell: Genotype | str, dataset: str = "cifar10") -> int:
    """Return how many cells are better, plus one: 1 is the best of 15,625."""
    values = accuracies(dataset)
    return int((values > values[index(cell)]).sum()) + 1


def optimum(dataset: str = "cifar10") -> tuple[Genotype, float]:
    """Return the best cell and its accuracy."""
    values = accuracies(dataset)
    best = int(values.argmax())
    return genotype(best), float(values[best])


def quantiles(
    dataset: str = "cifar10", shares: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.9, 0.99)
) -> dict[float, float]:
    """Return quantiles of the accuracy of a uniformly random cell.

    Raises:
        ConfigError: a share is not between 0 and 1.
    """
    if any(not 0 <= share <= 1 for share in shares):
        raise ConfigError(f"NAS-Bench-201: quantiles are from 0 to 1, not {list(shares)}.")
    values = accuracies(dataset)
    return {share: float(np.quantile(values, share)) for share in shares}


def random_mean_and_std(dataset: str = "cifar10") -> tuple[float, float]:
    """Return mean and standard deviation of the accuracy of a uniformly random cell."""
    values = accuracies(dataset)
    return float(values.mean()), float(values.std())


def index(cell: Genotype | str) -> int:
    """Return a cell's number in the benchmark.

    Raises:
        ConfigError: the cell does not parse or is not of the space.
    """
    found = Genotype.parse(cell) if isinstance(cell, str) else cell
    text = arch_string(found)
    number = _numbers().get(text)
    if number is None:
        raise ConfigError(
            f"NAS-Bench-201: {text} is no cell of the space: 3 nodes, and on each of the 6 edges"
            " none, skip_connect, nor_conv_1x1, nor_conv_3x3 or avg_pool_3x3."
        )
    return number


def genotype(number: int) -> Genotype:
    """Return the cell of a number.

    Raises:
        ConfigError: the number is not from 0 to 15,624.
    """
    table = _table()
    if not 0 <= number < len(table):
        raise ConfigError(f"NAS-Bench-201: cells are numbered from 0 to {len(table) - 1}.")
    return Genotype.parse(table["arch"][number].as_py())


def source() -> str:
    """Return where the numbers come from, as the table's metadata say it."""
    metadata: dict[bytes, bytes] = _table().schema.metadata
    return metadata[b"source"].decode()


def _dataset(name: str) -> str:
    key = "".join(letter for letter in name.lower() if letter.isalnum())
    if key not in _SPELLINGS:
        raise ConfigError(
            f"NAS-Bench-201: has no accuracies on {name!r}; it has {', '.join(DATASETS)}."
        )
    return _SPELLINGS[key]


@cache
def _table() -> pa.Table:
    with as_file(files("darts_ray").joinpath("benchmarks/data/nasbench201.parquet")) as path:
        return pq.read_table(Path(path))


@cache
def _numbers() -> dict[str, int]:
    return {text: number for number, text in enumerate(_table()["arch"].to_pylist())}
