"""True accuracies: what a published table says of the cells that searches derived.

Looked up, without training, in the table of NAS-Bench-201 (Dong and Yang 2020), the shipped one or
`benchmark.table`. They are test accuracies, so nothing may be chosen by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from darts_ray.benchmarks import nasbench201
from darts_ray.config import StudyConfig
from darts_ray.errors import ConfigError
from darts_ray.space import Genotype
from darts_ray.study.files.record import SearchEntry
from darts_ray.study.files.tables import KEYS

TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16-120": "ImageNet16-120"}
"""How texts name the datasets."""


def column_of(dataset: str) -> str:
    """Return how tables and MLflow name the true accuracy (0..1) on a dataset."""
    return f"true_accuracy_{dataset}"


def own_table(config: StudyConfig) -> nasbench201.Table | None:
    """Return the table that a study names; None: the shipped one is meant.

    Raises:
        ConfigError: there is none, or it is something else or damaged.
    """
    place = config.benchmark.table
    if place is None:
        return None
    try:
        path = Path(place)
        return _opened(place, path.stat().st_mtime_ns if path.exists() else 0)
    except ConfigError as error:
        raise ConfigError(f"benchmark.table: {error}") from error


def check_table(config: StudyConfig) -> None:
    """Insist that a study's own table has every cell that a search may derive.

    Raises:
        ConfigError: it lacks cells or a dataset, or is no such table; the message says which.
    """
    table = own_table(config)
    if table is None or not config.benchmark_datasets:
        return
    try:
        table.require(nasbench201.shipped_table().archs, config.benchmark_datasets)
    except ConfigError as error:
        raise ConfigError(f"benchmark.table: {error}") from error


def transfers(config: StudyConfig) -> list[str]:
    """Return a line if cells are looked up on other data than those they are searched on.

    Files of the user's own may hold any dataset; `benchmark.datasets` says which.
    """
    source = config.data.source
    own_files = source in ("parquet", "image_folder")
    if own_files and config.benchmark.datasets is not None:
        return []
    others = [TITLES[name] for name in config.benchmark_datasets if name != source]
    if not others:
        return []
    line = (
        f"benchmark: cells that are searched on {source} are looked up on {' and '.join(others)},"
        " so their true accuracies are those of a transfer"
    )
    told = f"; where these data are {others[0]}, say so by benchmark.datasets: [cifar10]"
    return [line + told if own_files else line]


def with_true_accuracies(
    entries: Iterable[SearchEntry],
    datasets: Sequence[str],
    table: nasbench201.Table | None = None,
) -> tuple[SearchEntry, ...]:
    """Return the entries with the published accuracies of their cells; none of other spaces.

    Raises:
        ConfigError: the table lacks a cell of the space.
    """
    return tuple(
        replace(entry, true_accuracy=_look_up(entry, datasets, table)) for entry in entries
    )


def trajectories(
    results: pa.Table, datasets: Sequence[str], table: nasbench201.Table | None = None
) -> pa.Table:
    """Return the true accuracy of every epoch's cell, as rows of the stage `benchmark`.

    Args:
        results: results.parquet; without a column `arch` (of searches in other spaces, or before
            it was written) there are no rows.
        datasets: whose accuracies.
        table: default: the shipped one.

    Raises:
        ConfigError: the table lacks a cell of the space.
    """
    schema = pa.schema([*KEYS, *(pa.field(column_of(name), pa.float64()) for name in datasets)])
    if "arch" not in results.column_names:
        return schema.empty_table()
    ours = pc.and_(pc.equal(results["stage"], "search"), pc.is_valid(results["arch"]))
    rows = results.filter(ours)
    cells = rows["arch"].to_pylist()
    columns = {name: rows[name] for name in KEYS.names if name != "stage"}
    columns["stage"] = pa.array(["benchmark"] * len(cells), pa.string())
    for name in datasets:
        known = {cell: _accuracy(cell, name, table) for cell in set(cells)}
        columns[column_of(name)] = pa.array([known[cell] for cell in cells], pa.float64())
    return pa.table({field.name: columns[field.name] for field in schema}, schema=schema)


def _look_up(
    entry: SearchEntry, datasets: Sequence[str], table: nasbench201.Table | None
) -> dict[str, float]:
    if entry.genotype.skeleton != "nasbench201":
        return {}
    found = {name: _accuracy(entry.genotype, name, table) for name in datasets}
    return {name: value for name, value in found.items() if value is not None}


def _accuracy(cell: Genotype | str, dataset: str, table: nasbench201.Table | None) -> float | None:
    try:
        nasbench201.index(cell)
    except ConfigError:
        # a user's space with the same skeleton may have operations that the benchmark lacks
        return None
    return nasbench201.accuracy(cell, dataset, table=table) / 100


# why: a single file takes minutes to read, and a run needs it before the searches and after
@lru_cache(maxsize=1)
def _opened(place: str, changed: int) -> nasbench201.Table:
    return nasbench201.open_table(place)
