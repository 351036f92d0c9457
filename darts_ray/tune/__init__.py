"""The Ray layer: trainables, trial runs that survive failures, callbacks, preflight."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darts_ray.tune.cluster.connect import start_ray
    from darts_ray.tune.cluster.preflight import preflight
    from darts_ray.tune.live_view import LiveView
    from darts_ray.tune.mlflow_callback import MLflowStudyCallback
    from darts_ray.tune.scheduling.search_space import axes_to_domains
    from darts_ray.tune.stage import run_trials
    from darts_ray.tune.trainables import RetrainTrainable, SearchTrainable
    from darts_ray.tune.trials import TrialOutcome, TrialSpec

__all__ = [
    "LiveView",
    "MLflowStudyCallback",
    "RetrainTrainable",
    "SearchTrainable",
    "TrialOutcome",
    "TrialSpec",
    "axes_to_domains",
    "preflight",
    "run_trials",
    "start_ray",
]

_MODULES = {
    "start_ray": "cluster.connect",
    "preflight": "cluster.preflight",
    "LiveView": "live_view",
    "MLflowStudyCallback": "mlflow_callback",
    "axes_to_domains": "scheduling.search_space",
    "run_trials": "stage",
    "RetrainTrainable": "trainables",
    "SearchTrainable": "trainables",
    "TrialOutcome": "trials",
    "TrialSpec": "trials",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: who only reads what trials have left needs no Ray."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
