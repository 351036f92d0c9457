"""The Ray layer: trainables, trial runs that survive failures, callbacks, preflight."""

from darts_ray.tune.cluster.connect import start_ray
from darts_ray.tune.cluster.preflight import preflight
from darts_ray.tune.live_view import LiveView
from darts_ray.tune.mlflow_callback import MLflowStudyCallback
from darts_ray.tune.search_space import axes_to_domains
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
