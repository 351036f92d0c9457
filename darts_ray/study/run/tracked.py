"""What a study tells the tracking server, beside the epochs of its trials.

Why a queue of events (`tracking/spool.py`) and not only a sync of the study folder: epochs reach
the server while trials run, hyperparameters that a scheduler changes are in no table, and an
object store cannot be appended to. The queue may be lost with the driver's machine, though. The
study's identity is therefore kept in its study.yaml, and a driver that finds another queue than
the study's writes once more what the tables hold; steps that are there already are left alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa

from darts_ray.config import StudyConfig
from darts_ray.errors import ConfigError
from darts_ray.export import load_proto
from darts_ray.study.files.exported import Exported
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import Record
from darts_ray.study.files.study import Study
from darts_ray.study.files.tables import KEYS, alphas_of
from darts_ray.study.report.cell_drawing import draw_cell
from darts_ray.study.report.figures import alpha_history
from darts_ray.study.run.exporting import NETWORK_FILE
from darts_ray.tracking import Registration, StudyTracker, named_uri, sqlite_uri

TRACKING_FOLDER = ".tracking"
"""Where inside a local study folder what MLflow has not yet received is kept."""
MAX_FIGURES = 12
"""Searches whose cells and alphas are drawn for the tracking server; a picture takes a while."""
WAITING = "(waiting)"

logger = logging.getLogger("darts_ray.study")


def open_tracker(config: StudyConfig, folder: StudyFolder) -> StudyTracker | None:
    """Return the study's tracker, which does nothing before it is used.

    Raises:
        ConfigError: the default SQLite file is not possible.
    """
    section = config.tracking
    if not section.enabled:
        return None
    uri = named_uri(section.uri)
    if uri is None:
        if not folder.is_local:
            raise ConfigError(
                "tracking.uri: the default, an SQLite file in the output folder, needs a local"
                f" output and not {config.output}. Name a tracking server, or set"
                " tracking.enabled=false."
            )
        uri = sqlite_uri(Path(config.output))
    if folder.is_local:
        queue = Path(folder.child(TRACKING_FOLDER))
    else:
        digest = hashlib.sha256(folder.uri.encode()).hexdigest()[:16]
        queue = Path.home() / ".cache" / "darts_ray" / "tracking" / digest
    experiment = section.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.name
    return StudyTracker(uri, experiment, config.name, queue, load_onnx=load_proto)


@contextmanager
def tracked(tracker: StudyTracker | None, config: StudyConfig) -> Iterator[None]:
    """Open the study's run while the block runs, and close it as the block ends."""
    if tracker is None:
        yield
        return
    with suppress(ImportError):
        # why: matplotlib looks into it where it is loaded, and a figure that is drawn while
        # mlflow's thread loads it fails
        import_module("IPython")
    tracker.start_study(config.model_dump(mode="json", exclude_none=True))
    try:
        yield
        tracker.end_study("FINISHED")
    except KeyboardInterrupt:
        tracker.end_study("KILLED")
        raise
    except BaseException:
        tracker.end_study("FAILED")
        raise
    finally:
        if not tracker.close():
            logger.warning(
                "MLflow at %s has not received everything yet; `darts-ray resume` delivers the"
                " rest when it is back",
                tracker.uri,
            )


def identify(tracker: StudyTracker, provenance: dict[str, Any]) -> bool:
    """Give tracker and provenance the same study id; return whether the queue is another one."""
    known = str(provenance.setdefault("study_id", tracker.study_id))
    is_lost = tracker.study_id != known
    tracker.study_id = known
    return is_lost


def deliver_again(tracker: StudyTracker, study: Study) -> None:
    """Put what the tables hold into the queue; the server leaves alone what it has."""
    rows = study.results.to_pandas()
    if not len(rows):
        return
    names = [name for name in rows.columns if name not in KEYS.names]
    for (stage, trial), epochs in rows[rows["stage"] != "benchmark"].groupby(
        ["stage", "trial"], sort=False
    ):
        owner = f"{stage}/{trial}"
        tracker.start_trial(stage, owner, trial, {"seed": int(epochs["seed"].iloc[0])})
        for epoch, *values in epochs[["epoch", *names]].itertuples(index=False):
            metrics = {n: v for n, v in zip(names, values, strict=True) if v == v}
            tracker.log_epoch(owner, int(epoch), metrics)
        failed = epochs["status"].iloc[-1] == "failed"
        tracker.end_trial(owner, "FAILED" if failed else "FINISHED")
    looked_up = rows[rows["stage"] == "benchmark"]
    log_true_accuracies(tracker, pa.Table.from_pandas(looked_up, preserve_index=False))


def log_true_accuracies(tracker: StudyTracker, rows: pa.Table) -> None:
    """Write the true accuracy of every epoch's cell into the runs of the searches."""
    names = [name for name in rows.column_names if name not in KEYS.names]
    for row in rows.to_pylist():
        known = {name: row[name] for name in names if row[name] is not None}
        tracker.log_epoch(f"search/{row['trial']}", row["epoch"], known)


def log_figures(tracker: StudyTracker, record: Record, alphas: pa.Table) -> None:
    """Give the tracked searches pictures of their cells and alphas."""
    for entry in record.search[:MAX_FIGURES]:
        rows = alphas_of(alphas, entry.trial)
        for cell in entry.genotype.cells:
            trial = f"search/{entry.trial}"
            tracker.log_artifact(trial, f"{cell}.svg", draw_cell(entry.genotype, cell))
            heatmap = alpha_history(rows, entry.genotype, cell)
            tracker.log_artifact(trial, f"alphas_{cell}.png", heatmap)


def log_weights(tracker: StudyTracker, folder: StudyFolder, record: Record) -> None:
    """Keep the winner's trained networks, with their genotype, in their runs.

    Those of other cells stay in the study folder: they may be hundreds.
    """
    for entry in record.retrained_winner:
        with tempfile.TemporaryDirectory() as temporary:
            weights = Path(temporary, NETWORK_FILE)
            weights.write_bytes(folder.read_bytes(f"{entry.checkpoint}/{NETWORK_FILE}"))
            tracker.log_checkpoint(f"retrain/{entry.trial}", weights)


def settled(
    tracker: StudyTracker, folder: StudyFolder, config: StudyConfig, exported: Exported
) -> Exported:
    """Return the export with its versions in the registry, where files were still waiting."""
    name = config.tracking.registered_model or config.name

    def settle(file: str, registered: str | None) -> str | None:
        if registered is None or not registered.endswith(WAITING):
            return registered
        with tempfile.TemporaryDirectory() as temporary:
            onnx = Path(temporary, file)
            onnx.write_bytes(folder.read_bytes(file))
            # why: the event that waits decides about the champion; this one only asks for the
            # version
            asking = Registration(name, rule="never")
            version = tracker.register_onnx(onnx, name, registration=asking)
        return registered if version is None else f"{name}, version {version}"

    int8 = exported.int8
    if int8 is not None and int8.file is not None:
        int8 = replace(int8, registered=settle(int8.file, int8.registered))
    return replace(exported, registered=settle(exported.file, exported.registered), int8=int8)
