"""What trials reported, as the rows of results.parquet and alphas.parquet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from darts_ray.config import SearchConfig
from darts_ray.space import Genotype, arch_string
from darts_ray.tune import TrialOutcome

NOT_METRICS = frozenset({"epoch", "stage", "setting", "seed", "trial"})
"""Keys of an epoch's report that are columns of their own."""

KEYS = pa.schema(
    [
        ("stage", pa.string()),
        ("trial", pa.string()),
        ("setting", pa.string()),
        ("seed", pa.int64()),
        ("epoch", pa.int64()),
        ("status", pa.string()),
    ]
)
_TEXT = pa.dictionary(pa.int32(), pa.string())
ALPHAS = pa.schema(
    [
        ("trial", _TEXT),
        ("setting", _TEXT),
        ("seed", pa.int64()),
        ("epoch", pa.int32()),
        ("cell", _TEXT),
        ("edge", pa.int16()),
        ("primitive", _TEXT),
        ("weight", pa.float32()),
    ]
)
"""A thousand searches have ten million rows; as dictionaries the texts take little memory."""


def results_table(stage: str, outcomes: Iterable[TrialOutcome]) -> pa.Table:
    """Return one row per trial and epoch: the keys, then a float column per metric.

    Searches in the skeleton of NAS-Bench-201 have a column `arch` as well: the epoch's cell as the
    benchmark writes it.
    """
    rows: list[dict[str, Any]] = []
    metrics: dict[str, None] = {}
    for outcome in outcomes:
        keys = {
            "stage": stage,
            "trial": outcome.name,
            "setting": outcome.setting,
            "seed": outcome.seed,
            "status": outcome.status,
        }
        epochs = _each_epoch_once(outcome.history)
        for report in epochs:
            found = {
                name: float(value) if math.isfinite(value) else None
                for name, value in scalars(report).items()
                if name not in NOT_METRICS
            }
            metrics |= dict.fromkeys(found)
            rows.append({**keys, "epoch": report["epoch"], **found})
        if stage == "search":
            for row, report in zip(rows[len(rows) - len(epochs) :], epochs, strict=True):
                row["arch"] = _arch(report.get("genotype"))
    has_arch = any(row.get("arch") for row in rows)
    extra = [pa.field("arch", pa.string())] if has_arch else []
    fields = [*KEYS, *extra, *(pa.field(name, pa.float64()) for name in metrics)]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


@cache
def _arch(genotype: str | None) -> str | None:
    found = None if genotype is None else Genotype.from_json(genotype)
    return arch_string(found) if found is not None and found.skeleton == "nasbench201" else None


def alphas_table(outcomes: Iterable[TrialOutcome]) -> pa.Table:
    """Return one row per search trial, epoch, cell, edge and primitive: the softmax weight."""
    return pa.concat_tables([ALPHAS.empty_table(), *(_alphas_of(item) for item in outcomes)])


def replace_stage(existing: pa.Table | None, new: pa.Table, stage: str) -> pa.Table:
    """Return results with one stage's rows replaced and the columns united."""
    if existing is None or not existing.num_rows:
        return new
    others = existing.filter(pc.not_equal(existing["stage"], stage))
    return pa.concat_tables([others, new], promote_options="default")


def alphas_of(alphas: pa.Table, trial: str) -> pd.DataFrame:
    """Return one trial's rows of an alphas table."""
    rows = alphas.filter(pc.equal(alphas["trial"].cast(pa.string()), trial))
    plain = pa.schema([(field.name, _plain(field.type)) for field in rows.schema])
    frame: pd.DataFrame = rows.cast(plain).to_pandas()
    return frame


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _alphas_of(outcome: TrialOutcome) -> pa.Table:
    space = SearchConfig.model_validate(outcome.config).search_space()
    tables = []
    for report in _each_epoch_once(outcome.history):
        for name, nested in (report.get("alphas") or {}).items():
            cell = space.cell(name)
            # edges, primitives and weights that exist, without the padding of shorter lists
            edges, columns_of = np.nonzero(cell.mask())
            names = cell.all_primitives
            indices = [
                names.index(cell.edges[edge].primitives[column])
                for edge, column in zip(edges, columns_of, strict=True)
            ]
            number = len(edges)
            columns = [
                _repeat(outcome.name, number),
                _repeat(outcome.setting, number),
                pa.repeat(pa.scalar(outcome.seed, pa.int64()), number),
                pa.repeat(pa.scalar(report["epoch"], pa.int32()), number),
                _repeat(name, number),
                pa.array(edges.astype(np.int16)),
                _texts(np.array(indices, dtype=np.int32), list(names)),
                pa.array(np.asarray(nested, dtype=np.float32)[edges, columns_of]),
            ]
            tables.append(pa.Table.from_arrays(columns, schema=ALPHAS))
    # why: one chunk per trial; a thousand trials times fifty epochs of chunks would be slow
    return pa.concat_tables([ALPHAS.empty_table(), *tables]).combine_chunks()


def _repeat(text: str, number: int) -> pa.DictionaryArray:
    return _texts(np.zeros(number, dtype=np.int32), [text])


def _texts(indices: npt.NDArray[np.int32], texts: list[str]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(texts))


def _each_epoch_once(epochs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Drop what a restart from a checkpoint reported again; the later report counts."""
    return list({int(report["epoch"]): report for report in epochs}.values())


def scalars(report: Mapping[str, Any]) -> dict[str, float | int]:
    """Return a report's numbers by name; flags, texts and nested values are none."""
    return {
        name: value
        for name, value in report.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
