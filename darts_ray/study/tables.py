"""What trials reported, as the rows of results.parquet and alphas.parquet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from darts_ray.config import SearchConfig
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
ALPHAS = pa.schema(
    [
        ("trial", pa.string()),
        ("setting", pa.string()),
        ("seed", pa.int64()),
        ("epoch", pa.int32()),
        ("cell", pa.string()),
        ("edge", pa.int16()),
        ("primitive", pa.string()),
        ("weight", pa.float32()),
    ]
)


def results_table(stage: str, outcomes: Iterable[TrialOutcome]) -> pa.Table:
    """Return one row per trial and epoch: the keys, then a float column per metric."""
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
        for report in _each_epoch_once(outcome.history):
            found = {
                name: float(value) if math.isfinite(value) else None
                for name, value in scalars(report).items()
                if name not in NOT_METRICS
            }
            metrics |= dict.fromkeys(found)
            rows.append({**keys, "epoch": report["epoch"], **found})
    fields = [*KEYS, *(pa.field(name, pa.float64()) for name in metrics)]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def alphas_table(outcomes: Iterable[TrialOutcome]) -> pa.Table:
    """Return one row per search trial, epoch, cell, edge and primitive: the softmax weight."""
    return pa.concat_tables([ALPHAS.empty_table(), *(_alphas_of(item) for item in outcomes)])


def replace_stage(existing: pa.Table | None, new: pa.Table, stage: str) -> pa.Table:
    """Return results with one stage's rows replaced and the columns united."""
    if existing is None or not existing.num_rows:
        return new
    others = existing.filter(pc.not_equal(existing["stage"], stage))
    return pa.concat_tables([others, new], promote_options="default")


def _alphas_of(outcome: TrialOutcome) -> pa.Table:
    space = SearchConfig.model_validate(outcome.config).search_space()
    primitives = np.asarray(space.primitives)
    tables = []
    for report in _each_epoch_once(outcome.history):
        for cell, nested in (report.get("alphas") or {}).items():
            weights = np.asarray(nested, dtype=np.float32)
            num_edges, num_primitives = weights.shape
            number = weights.size
            columns = [
                pa.repeat(pa.scalar(outcome.name), number),
                pa.repeat(pa.scalar(outcome.setting), number),
                pa.repeat(pa.scalar(outcome.seed, pa.int64()), number),
                pa.repeat(pa.scalar(report["epoch"], pa.int32()), number),
                pa.repeat(pa.scalar(cell), number),
                pa.array(np.repeat(np.arange(num_edges, dtype=np.int16), num_primitives)),
                pa.array(np.tile(primitives[:num_primitives], num_edges)),
                pa.array(weights.reshape(-1)),
            ]
            tables.append(pa.Table.from_arrays(columns, schema=ALPHAS))
    # why: one chunk per trial; a thousand trials times fifty epochs of chunks would be slow
    return pa.concat_tables([ALPHAS.empty_table(), *tables]).combine_chunks()


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
