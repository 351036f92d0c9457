"""`StudyTracker`: one MLflow run per study, a child per trial, and nothing lost in an outage."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from darts_ray.tracking.backend import RunStore
from darts_ray.tracking.delivery import Delivery, delivery_of, stop_delivery
from darts_ray.tracking.names import METRICS, finite, flatten
from darts_ray.tracking.registration import Registration
from darts_ray.tracking.server import resolve_uri
from darts_ray.tracking.spool import Spool

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

logger = logging.getLogger("darts_ray.tracking")


class StudyTracker:
    """Writes a study to MLflow from a background thread.

    Every call is put into a queue on disk and returns at once; it neither waits for the server
    nor raises because of it (`flush`, `close` and `register_onnx` wait, up to their timeout).
    What an outage or a killed driver leaves in the queue is written when the server is back or
    when a tracker is made for the same folder again. Making the tracker does nothing yet; the
    first call opens the queue.

    Args:
        uri: tracking URI, such as `sqlite:////absolute/mlflow.db` or `https://server:5000`.
        experiment: the MLflow experiment, created when missing.
        study: the study's name, the name of its run.
        folder: a local folder for the queue; a resumed study must name the same one.
        load_onnx: reads an ONNX file into a proto (`darts_ray.export.load_proto`); needed by
            `register_onnx` only. Rooms that know onnx and mlflow do not know each other.
        metrics: names of the metrics that are written; others are dropped.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        study: str,
        folder: Path,
        *,
        load_onnx: Callable[[Path], Any] | None = None,
        metrics: Collection[str] = METRICS,
    ) -> None:
        self.uri = resolve_uri(uri)
        self._experiment = experiment
        self._study = study
        self._folder = folder.resolve()
        self._load_onnx = load_onnx
        self._metrics = frozenset(metrics)

    @property
    def run_id(self) -> str | None:
        """The study's MLflow run id; None until the server has made it."""
        return self._delivery.store.study_run_id

    def start_study(
        self,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        *,
        first_tags: Mapping[str, str] | None = None,
    ) -> None:
        """Open the study's run, or take it up again.

        Args:
            params: nested ones become dotted names.
            tags: written now.
            first_tags: written where the run is new; users may change them later.
        """
        flat, first = dict(flatten(params)), dict(first_tags or {})
        self._put(
            "start_study", name=self._study, params=flat, tags=dict(tags or {}), first_tags=first
        )

    def log_dataset(
        self,
        name: str,
        digest: str,
        source_type: str,
        source: Mapping[str, Any],
        *,
        context: str = "training",
    ) -> None:
        """Note on the study's run which data it works on; once, however often this is called.

        Args:
            name: such as `cifar10`.
            digest: identifies the content; MLflow keeps 36 characters.
            source_type: one of MLflow's, such as `local`.
            source: what MLflow's source of that type consists of, such as `{"uri": ...}`.
            context: what the data are used for.
        """
        self._put(
            "log_dataset",
            trial=None,
            name=name,
            digest=digest,
            source_type=source_type,
            source=dict(source),
            context=context,
        )

    def log_study(self, metrics: Mapping[str, float]) -> None:
        """Write numbers of the whole study; the step is the age of its run in seconds.

        Written again, a number has its newest value, and its history shows the earlier ones.
        """
        known = {name: finite(value) for name, value in metrics.items()}
        self._put("log_metrics", trial=None, metrics=known)

    def start_stage(self, stage: str) -> None:
        """Note on the study's run which stage is running (tag `darts.stage`)."""
        self._put("start_stage", stage=stage)

    def start_trial(
        self,
        stage: str,
        trial_id: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Open a trial's run with these tags, or take it up; nested params become dotted names."""
        flat, given = dict(flatten(params)), dict(tags or {})
        self._put("start_trial", trial=trial_id, stage=stage, name=name, params=flat, tags=given)

    def log_params(self, trial_id: str, epoch: int, params: Mapping[str, Any]) -> None:
        """Write what changed mid-run (PBT): numbers as metrics `params/<name>` at that epoch.

        MLflow forbids to change a param. Params that have their known value are not written, so
        the whole configuration may be passed; text goes into a tag `params/<name>`.
        """
        self._put("log_params", trial=trial_id, step=epoch, params=dict(flatten(params)))

    def log_epoch(self, trial_id: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Write the known scalars among a trial's results, with step = epoch.

        A metric is written once per step: epochs that a trial repeats after going back to a
        checkpoint are not written again.
        """
        known = {
            name: finite(value)
            for name, value in metrics.items()
            if name in self._metrics and isinstance(value, int | float)
        }
        self._put("log_epoch", trial=trial_id, step=epoch, metrics=known)

    def end_trial(
        self, trial_id: str, status: RunStatus = "FINISHED", error: str | None = None
    ) -> None:
        """Close a trial's run; the error goes into the tag `darts.error`."""
        self._put("end", trial=trial_id, status=status, error=error)

    def log_artifact(self, trial_id: str | None, name: str, content: str | bytes) -> None:
        """Write text or bytes as an artifact (`name` may hold folders); None: the study's run."""
        data = content.encode() if isinstance(content, str) else content
        self._put_file(data, PurePosixPath(name), trial_id)

    def log_checkpoint(self, trial_id: str | None, path: Path) -> None:
        """Write a weights file as an artifact under `checkpoints/`; None: the study's run."""
        self._put_file(path, PurePosixPath("checkpoints", path.name), trial_id)

    def log_tables(self, files: Sequence[Path]) -> None:
        """Write the study's result files as artifacts of its run."""
        for path in files:
            self._put_file(path, PurePosixPath(path.name), None)

    def register_onnx(
        self,
        path: Path,
        name: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        registration: Registration | None = None,
        timeout_s: float = 120.0,
    ) -> str | None:
        """Log the ONNX file as a model and register it under `name`; it may become the champion.

        The same file is registered once, however often this is called for the study.

        Args:
            path: the file.
            name: of the registered model.
            metadata: put into the model's MLmodel file.
            registration: score, rule and code; without it the alias `champion` always moves.
            timeout_s: how long to wait for the server.

        Returns:
            The version, or None while the server is away (it is registered later).
        """
        digest = _digest(path)
        how = registration or Registration(name)
        self._put_file(
            path,
            PurePosixPath(path.name),
            None,
            op="register_onnx",
            name=name,
            digest=digest,
            metadata=dict(metadata or {}),
            how=asdict(replace(how, name=name)),
        )
        self.flush(timeout_s)
        known = self._delivery.store.versions.get(digest)
        return None if known is None else known[0]

    def why_not_champion(self, path: Path) -> str:
        """Return why a file that was registered did not become the champion; empty: it did."""
        return self._delivery.store.versions.get(_digest(path), ("", ""))[1]

    def end_study(self, status: RunStatus = "FINISHED") -> None:
        """Close the study's run."""
        self._put("end", trial=None, status=status)

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Wait until everything is written; False when the server is away or too slow.

        Also makes the thread try at once, instead of after its pause in an outage.
        """
        return self._delivery.flush(timeout_s)

    def close(self, timeout_s: float = 60.0) -> bool:
        """Flush, then stop the thread; what is left is written when the folder is opened again."""
        delivered = self.flush(timeout_s)
        stop_delivery(self._folder)
        return delivered

    def is_new(self, what: str) -> bool:
        """Whether this is asked for the first time since the queue exists, also over resumes."""
        return self._delivery.spool.note(what)

    @property
    def study_id(self) -> str:
        """Identifies the study's runs on the server; a study keeps it in its own folder."""
        return self._delivery.spool.study_id

    @study_id.setter
    def study_id(self, value: str) -> None:
        if self.study_id != value:
            self._delivery.spool.study_id = value

    @property
    def _delivery(self) -> Delivery:
        def make() -> Delivery:
            spool = Spool(self._folder)
            store = RunStore(self.uri, self._experiment, self._study, spool, self._load_onnx)
            return Delivery(spool, store)

        return delivery_of(self._folder, make)

    def _put(self, op: str, **values: Any) -> None:
        # MLflow wants milliseconds. The time is taken now: a metric that is written late or twice
        # keeps it.
        self._delivery.put({"op": op, "time": time.time_ns() // 1_000_000, **values})

    def _put_file(
        self,
        source: Path | bytes,
        artifact: PurePosixPath,
        trial_id: str | None,
        *,
        op: str = "log_artifact",
        **values: Any,
    ) -> None:
        try:
            kept = self._delivery.spool.attach(source, artifact.name)
        except OSError as error:
            logger.warning("MLflow lacks the artifact %s: %s", artifact, error)
            return
        folder = "" if artifact.parent == PurePosixPath() else str(artifact.parent)
        self._put(op, trial=trial_id, attachment=kept, folder=folder, **values)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
