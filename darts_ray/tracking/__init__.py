"""What a study leaves in MLflow; the only room that imports mlflow, and only when it is used."""

from darts_ray.tracking.names import METRICS, metric_groups
from darts_ray.tracking.registration import Registration
from darts_ray.tracking.server import check_server, named_uri, sqlite_uri
from darts_ray.tracking.system import SystemMetrics
from darts_ray.tracking.tracker import RunStatus, StudyTracker

__all__ = [
    "METRICS",
    "Registration",
    "RunStatus",
    "StudyTracker",
    "SystemMetrics",
    "check_server",
    "metric_groups",
    "named_uri",
    "sqlite_uri",
]
