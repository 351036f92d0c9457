"""`StudyTracker`: one MLflow run per study, a child per trial, and nothing lost in an outage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
METRICS: frozenset[str] = frozenset()


class StudyTracker:
    """Writes a study to MLflow from a background thread.

    No method waits for the server or raises because of it (`flush`, `close` and `register_onnx`
    wait, up to their timeout). Picklable; copies in one process share one queue.

    Args:
        uri: tracking URI (`sqlite:///...` absolute, or `http(s)://...`).
        experiment: the MLflow experiment, created when missing.
        study: the study's name, the name of its run.
        folder: a local folder for the queue; a resumed study must name the same one.
        load_onnx: reads an ONNX file into a proto (`darts_ray.export.load_proto`); needed by
            `register_onnx` only.
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
        raise NotImplementedError

    @property
    def run_id(self) -> str | None:
        """The study's MLflow run id; None until the server has made it."""
        raise NotImplementedError

    def start_study(
        self, params: Mapping[str, Any], tags: Mapping[str, str] | None = None
    ) -> None:
        """Open the study's run, or take it up again; nested params become dotted names."""
        raise NotImplementedError

    def start_stage(self, stage: str) -> None:
        """Note on the study's run which stage is running."""
        raise NotImplementedError

    def start_trial(self, stage: str, trial_id: str, name: str, params: Mapping[str, Any]) -> None:
        """Open a trial's run, or take it up again; nested params become dotted names."""
        raise NotImplementedError

    def log_params(self, trial_id: str, epoch: int, params: Mapping[str, Any]) -> None:
        """Write params that changed mid-run (PBT) as metrics `params/<name>` at that epoch."""
        raise NotImplementedError

    def log_epoch(self, trial_id: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Write the known scalars among a trial's results, with step = epoch."""
        raise NotImplementedError

    def end_trial(
        self, trial_id: str, status: RunStatus = "FINISHED", error: str | None = None
    ) -> None:
        """Close a trial's run."""
        raise NotImplementedError

    def log_artifact(self, trial_id: str | None, name: str, content: str | bytes) -> None:
        """Write text or bytes as an artifact (`name` may hold folders); None: the study's run."""
        raise NotImplementedError

    def log_checkpoint(self, trial_id: str | None, path: Path) -> None:
        """Write a weights file as an artifact under `checkpoints/`; None: the study's run."""
        raise NotImplementedError

    def log_tables(self, files: Sequence[Path]) -> None:
        """Write the study's result files as artifacts of its run."""
        raise NotImplementedError

    def register_onnx(
        self,
        path: Path,
        name: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        timeout_s: float = 120.0,
    ) -> str | None:
        """Log the ONNX file as a model, register it under `name` with the alias `champion`.

        Returns:
            The version, or None while the server is away (it is registered later).
        """
        raise NotImplementedError

    def end_study(self, status: RunStatus = "FINISHED") -> None:
        """Close the study's run."""
        raise NotImplementedError

    def flush(self, timeout_s: float = 60.0) -> bool:
        """Wait until everything is written; False when the server is away or too slow."""
        raise NotImplementedError

    def close(self, timeout_s: float = 60.0) -> bool:
        """Flush, then stop the thread; what is left is written when the folder is opened again."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return what identifies the study's runs, for a driver checkpoint."""
        raise NotImplementedError

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the runs that `state` identifies."""
        raise NotImplementedError
