"""True accuracies: what a published table says of the cells that searches derived.

Looked up, without training, in the table of NAS-Bench-201 (Dong and Yang 2020). They are test
accuracies, so nothing may be chosen by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from darts_ray.benchmarks import nasbench201
from darts_ray.errors import ConfigError
from darts_ray.space import Genotype
from darts_ray.study.files.record import SearchEntry
from darts_ray.study.files.tables import KEYS


def column_of(dataset: str) -> str:
    """Return how tables and MLflow name the true accuracy (0..1) on a dataset."""
    return f"true_accuracy_{dataset}"


def with_true_accuracies(
    entries: Iterable[SearchEntry], datasets: Sequence[str]
) -> tuple[SearchEntry, ...]:
    """Return the entries with the published accuracies of their cells; none of other spaces."""
    return tuple(replace(entry, true_accuracy=_look_up(entry, datasets)) for entry in entries)


def trajectories(results: pa.Table, datasets: Sequence[str]) -> pa.Table:
    """Return the true accuracy of every epoch's cell, as rows of the stage `benchmark`.

    Args:
        results: results.parquet; without a column `arch` (of searches in other spaces, or before
            it was written) there are no rows.
        datasets: whose accuracies.
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
        # why: a user's space with the same skeleton may have operations that the table lacks
        known = {cell: _accuracy(cell, name) for cell in set(cells)}
        columns[column_of(name)] = pa.array([known[cell] for cell in cells], pa.float64())
    return pa.table({field.name: columns[field.name] for field in schema}, schema=schema)


def _look_up(entry: SearchEntry, datasets: Sequence[str]) -> dict[str, float]:
    if entry.genotype.skeleton != "nasbench201":
        return {}
    found = {name: _accuracy(entry.genotype, name) for name in datasets}
    return {name: value for name, value in found.items() if value is not None}


def _accuracy(cell: Genotype | str, dataset: str) -> float | None:
    try:
        return nasbench201.accuracy(cell, dataset) / 100
    except ConfigError:
        return None
