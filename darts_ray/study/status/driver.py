"""Whether a driver is at work on a study, as far as its folder tells."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from darts_ray.errors import StudyError
from darts_ray.study.files.folder import HOLDER_FILE, LOCK_FILE, StudyFolder
from darts_ray.study.files.holder import Holder
from darts_ray.study.files.lease import LEASE_SECONDS

SILENT_SECONDS = 600.0
"""After this long without a new file, a driver that cannot be asked is called silent."""


@dataclass(frozen=True)
class Driver:
    """Who holds a study's lock.

    Attributes:
        state: `working`: it is there; `died`: it left its lock behind; `unknown`: it runs on
            another host, so only its files tell of it; `silent`: as unknown, and for ten minutes
            no file has changed; `none`: nobody holds the lock.
        host: where it runs; None where the lock does not say.
        pid: its process; None as `host`.
        since: when it took the lock, in seconds since 1970; None without one.
        last_sign: when it last wrote anything; None where the folder holds no file.
    """

    state: Literal["working", "died", "unknown", "silent", "none"]
    host: str | None = None
    pid: int | None = None
    since: float | None = None
    last_sign: float | None = None

    @property
    def may_work(self) -> bool:
        """Whether trials without an end are to be taken as running."""
        return self.state in ("working", "unknown", "silent")


def read_driver(folder: StudyFolder, modified: Mapping[str, float]) -> Driver:
    """Return who is at work on a study; nothing is written and no lock is touched.

    Args:
        folder: the study's folder.
        modified: its files with the times of their last change.
    """
    last = max(modified.values(), default=None)
    if LOCK_FILE not in modified:
        return Driver("none", last_sign=last)
    file = HOLDER_FILE if folder.is_local else LOCK_FILE
    try:
        holder = Holder.from_json(folder.read_bytes(file))
    except (StudyError, ValueError, KeyError, TypeError):
        # of an earlier version, or of a driver that has just ended
        return Driver(_by_files(last), since=modified[LOCK_FILE], last_sign=last)
    # why: a lease is written again and again, the other file once
    since = modified.get(HOLDER_FILE, modified[LOCK_FILE]) if folder.is_local else holder.started
    state: Literal["working", "died", "unknown", "silent"]
    if holder.is_here:
        state = "died" if holder.has_died_here() else "working"
    elif folder.is_local:
        state = _by_files(last)
    else:
        renewed = time.time() - modified[LOCK_FILE]
        state = "working" if renewed < LEASE_SECONDS else "died"
    return Driver(state, holder.host, holder.pid, since, last)


def _by_files(last: float | None) -> Literal["unknown", "silent"]:
    return "unknown" if last is not None and time.time() - last < SILENT_SECONDS else "silent"
