"""What a study leaves in MLflow; the only room that imports mlflow, and only when it is used."""

from darts_ray.tracking.registration import Registration
from darts_ray.tracking.server import check_server, named_uri, sqlite_uri
from darts_ray.tracking.tracker import METRICS, RunStatus, StudyTracker

__all__ = [
    "METRICS",
    "Registration",
    "RunStatus",
    "StudyTracker",
    "check_server",
    "named_uri",
    "sqlite_uri",
]
