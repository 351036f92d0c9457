"""What a study tells the tracking server, beside the epochs of its trials.

Why a queue of events (`tracking/spool.py`) and not only a sync of the study folder: epochs reach
the server while trials run, hyperparameters that a scheduler changes are in no table, and an
object store cannot be appended to. The queue may be lost with the driver's machine, though. The
study's identity is therefore kept in its study.yaml, and a driver that finds another queue than
the study's writes once more what the tables hold; steps that are there already are left alone.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from darts_ray.config import StudyConfig
from darts_ray.space import fingerprint
from darts_ray.study.files.exported import Exported
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import Record
from darts_ray.study.files.study import Study
from darts_ray.study.files.tables import KEYS, alphas_of
from darts_ray.study.report.cell_drawing import draw_cell
from darts_ray.study.report.figures import alpha_history
from darts_ray.study.run.exporting import NETWORK_FILE
from darts_ray.tracking import Registration, StudyTracker

WAITING = "(waiting)"


def deliver_again(tracker: StudyTracker, study: Study) -> None:
    """Put what the tables hold into the queue; the server leaves alone what it has."""
    rows = study.results()
    if not len(rows):
        return
    names = [name for name in rows.columns if name not in KEYS.names]
    for (stage, trial), epochs in rows[rows["stage"] != "benchmark"].groupby(
        ["stage", "trial"], sort=False
    ):
        owner = f"{stage}/{trial}"
        tracker.start_trial(str(stage), owner, str(trial), {"seed": int(epochs["seed"].iloc[0])})
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


def log_figures(
    tracker: StudyTracker, config: StudyConfig, record: Record, alphas: pa.Table
) -> None:
    """Give the tracked searches pictures of their cells and alphas, unless they have them."""
    number = config.tracking.figures
    for entry in record.search[: None if number == "all" else number]:
        if not tracker.is_new(f"figures {entry.trial} {fingerprint(entry.genotype)}"):
            continue
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
