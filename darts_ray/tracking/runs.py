"""What is known of a study's runs on the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# A trial's id, or None for the study.
Owner = str | None

CHANGED = "params/"
"""Prefix of metrics (numbers) and tags (text) that hold params which changed mid-run."""


@dataclass
class Run:
    """What is known of a run on the server.

    Attributes:
        run_id: MLflow's.
        status: MLflow's, such as RUNNING.
        params: values as text; for one that changed mid-run the newest.
        steps: the last step written, by metric.
        started: when it began, in milliseconds since 1970.
    """

    run_id: str
    status: str
    params: dict[str, str] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    started: int = 0

    @staticmethod
    def from_server(run: Any) -> Run:
        """Return what MLflow knows of a run."""
        metrics = run.data.metrics
        # Every epoch is written together with the metric `epoch`: its last value is their step.
        steps = dict.fromkeys(metrics, int(metrics.get("epoch", -1)))
        changed = {
            name.removeprefix(CHANGED): str(value)
            for name, value in {**run.data.tags, **metrics}.items()
            if name.startswith(CHANGED)
        }
        params = {**run.data.params, **changed}
        return Run(run.info.run_id, run.info.status, params, steps, run.info.start_time or 0)


class Runs(dict[Owner, Run]):
    """The study's runs by owner."""

    def __missing__(self, owner: Owner) -> Run:
        """Say which run is not there."""
        what = "the study" if owner is None else f"trial {owner}"
        raise LookupError(f"{what} has no MLflow run: not started, or its run was deleted")
