"""Samples how busy the driver's machine is, under the names by which MLflow shows that."""

from __future__ import annotations

import importlib
import os
import threading
from types import TracebackType
from typing import Any

from darts_ray.tracking.tracker import StudyTracker

INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
DEFAULT_INTERVAL_S = 10.0


class SystemMetrics:
    """Writes CPU, memory, disk, network and GPUs into the study's run while a block runs.

    The values come from MLflow's own monitors and go through the tracker's queue, so an outage
    of the server delays them only. They are those of the machine on which the driver runs: trials
    on other nodes of a cluster are not in them. GPUs are seen where `nvidia-ml-py` is installed.

    Args:
        tracker: of the study.
        interval_s: seconds between samples; default: MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL of
            the environment, else 10.
    """

    def __init__(self, tracker: StudyTracker, interval_s: float | None = None) -> None:
        self._tracker = tracker
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system-metrics", daemon=True)

    def __enter__(self) -> SystemMetrics:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take a last sample and end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        asked = self._interval_s or float(os.environ.get(INTERVAL, DEFAULT_INTERVAL_S))
        monitors = _monitors()
        stopping = False
        while not stopping:  # a last time when it stops, so that a short study has values too
            stopping = self._stopping.wait(asked)
            values: dict[str, float] = {}
            for monitor in monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
            self._tracker.log_study({f"system/{name}": v for name, v in values.items()})


def _monitors() -> list[Any]:
    monitors = [_monitor(kind) for kind in ("CPU", "Disk", "Network")]
    try:
        monitors.append(_monitor("GPU"))
    except (ImportError, RuntimeError):  # no nvidia-ml-py, or no GPU
        pass
    return monitors


def _monitor(kind: str) -> Any:
    module = importlib.import_module(f"mlflow.system_metrics.metrics.{kind.lower()}_monitor")
    return getattr(module, f"{kind}Monitor")()
