"""A study's results as metrics of its run in MLflow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev

import pandas as pd

from darts_ray.config import StudyConfig
from darts_ray.study.files.entries import scores_of_searches
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import NO_AXIS, TRAINING_STAGES, Record, SearchEntry
from darts_ray.study.plan.settings import searches_of
from darts_ray.study.report.robustness import last_eigenvalues, split_stopped
from darts_ray.tracking import metric_groups


def study_metrics(config: StudyConfig, record: Record, results: pd.DataFrame) -> dict[str, float]:
    """Return what a study has found so far; accuracies are 0 to 1.

    - `test_accuracy_mean`, `_sd`, `_best` (or `test_perplexity_...`): of the winner's
      retrainings; `_sd` from two on.
    - `SETTING/seeds`, and over its searches `SETTING/search_accuracy_mean`, `_sd`, `_best`, the
      same of `select_accuracy`, of `test_accuracy` where every search's own cell is retrained
      and of `true_accuracy_DATASET`; `SETTING/dominant_eigenvalue_mean`. Searches that a scheduler
      stopped early count in none of them, as in the report.
    - `onnx_max_difference`, `int8_accuracy`; `num_searches`, `num_failed`, `hours_STAGE` of wall
      time; `cpu_hours` and `gpu_hours`: time in epochs times what a trial is given.

    Args:
        config: of the study.
        record: content of genotypes.json.
        results: rows of results.parquet.
    """
    metrics: dict[str, float] = {
        "num_searches": len(record.search),
        "num_failed": len(record.failed),
        **{f"hours_{name}": state.seconds / 3600 for name, state in record.stages.items()},
        **_hours(config, results),
        **_settings(config, record, results),
    }
    measure = Measure.of(config.data)
    tested = [
        e.metrics[measure.test] for e in record.retrained_winner if measure.test in e.metrics
    ]
    metrics |= _spread(measure.test, tested, measure)
    if record.export is not None:
        metrics["onnx_max_difference"] = record.export.max_difference
        if record.export.int8 is not None and record.export.int8.accuracy is not None:
            metrics["int8_accuracy"] = record.export.int8.accuracy
    return metrics


def _settings(config: StudyConfig, record: Record, results: pd.DataFrame) -> dict[str, float]:
    counted, _ = split_stopped(record, config.tune.scheduler == "asha")
    measure = Measure.of(config.data)
    retrained = record.retrain if config.judges_each else ()
    tested = scores_of_searches(counted, retrained, measure.test)
    eigenvalues = last_eigenvalues(results)
    metrics: dict[str, float] = {}
    for setting, group in _groups(config, counted).items():
        entries = [entry for entry in counted if entry.setting == setting]
        columns: dict[str, Iterable[float | None]] = {
            f"search_{measure.name}": (entry.validation for entry in entries),
            f"select_{measure.name}": (entry.select_score for entry in entries),
            measure.test: (fmean(tested[e.trial]) for e in entries if e.trial in tested),
            **{
                f"true_accuracy_{name}": (entry.true_accuracy.get(name) for entry in entries)
                for name in config.benchmark_datasets
            },
        }
        metrics[f"{group}/seeds"] = len(entries)
        for name, values in columns.items():
            better = measure if measure.name in name else Measure("accuracy", True)
            metrics |= _spread(f"{group}/{name}", [v for v in values if v is not None], better)
        measured = [eigenvalues[e.trial] for e in entries if e.trial in eigenvalues]
        if measured:
            metrics[f"{group}/dominant_eigenvalue_mean"] = fmean(measured)
    return metrics


def _groups(config: StudyConfig, entries: Sequence[SearchEntry]) -> Mapping[str, str]:
    """Return the name of each setting's metrics; a study without axes has that of its method."""
    if config.search is None:
        return {}
    names = metric_groups(dict.fromkeys(entry.setting for entry in entries))
    if NO_AXIS in names:
        ((_, search),) = searches_of(config)
        names[NO_AXIS] = search.method.name
    return names


def _spread(name: str, values: Sequence[float], measure: Measure) -> Iterator[tuple[str, float]]:
    if values:
        yield f"{name}_mean", fmean(values)
        yield f"{name}_best", measure.best(values)
    if len(values) > 1:
        yield f"{name}_sd", stdev(values)


def _hours(config: StudyConfig, results: pd.DataFrame) -> dict[str, float]:
    if "seconds" not in results.columns:
        return {}
    spent = results.groupby("stage")["seconds"].sum()
    resources = config.resources
    workers = {stage: resources.workers_in(stage) for stage in TRAINING_STAGES}
    hours = sum(float(spent.get(stage, 0.0)) * workers[stage] for stage in workers) / 3600
    return {
        "cpu_hours": hours * resources.cpus_per_trial,
        "gpu_hours": hours * resources.gpus_per_trial,
    }
