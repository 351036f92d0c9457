"""Checks that would otherwise fail hours later: resources, storage, data, tracking."""

from __future__ import annotations

from collections.abc import Mapping

from darts_ray.config import StudyConfig


def preflight(
    study: StudyConfig, storage: str, num_trials: Mapping[str, int] | None = None
) -> None:
    """Check everything that a study needs, inside `start_ray`; nothing is left behind.

    Args:
        study: the study.
        storage: absolute path or URI of the study folder.
        num_trials: trials per stage, for the disk space of checkpoints; None: not checked.

    Raises:
        ResourceError: a trial asks for more than any node has, or the disk is too small.
        StudyError: the storage is not writable, or not shared by all nodes.
        DataError: a node cannot read the data.
        TrackingError: the named tracking server does not answer.
    """
    raise NotImplementedError
