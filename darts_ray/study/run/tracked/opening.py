"""A study's run in MLflow: where it is, what it is called and by what it is found."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from darts_ray.config import StudyConfig
from darts_ray.errors import ConfigError
from darts_ray.export import load_proto
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.run.tracked.origin import first_tags, note_data, study_tags
from darts_ray.tracking import StudyTracker, SystemMetrics, named_uri, sqlite_uri

TRACKING_FOLDER = ".tracking"
"""Where inside a local study folder what MLflow has not yet received is kept."""

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
def tracked(
    tracker: StudyTracker | None, config: StudyConfig, provenance: dict[str, Any]
) -> Iterator[None]:
    """Open the study's run while the block runs, and close it as the block ends."""
    if tracker is None:
        yield
        return
    with suppress(ImportError):
        # why: matplotlib looks into it where it is loaded, and a figure that is drawn while
        # mlflow's thread loads it fails
        import_module("IPython")
    tracker.start_study(
        config.model_dump(mode="json", exclude_none=True),
        study_tags(config),
        first_tags=first_tags(config),
    )
    note_data(tracker, config.data, provenance["data_fingerprint"])
    try:
        with ExitStack() as stack:
            if config.tracking.system_metrics:
                stack.enter_context(SystemMetrics(tracker))
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
