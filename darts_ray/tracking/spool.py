"""An ordered queue on disk: what was tracked but is not yet in MLflow survives the driver.

Events are JSON lines that are appended and flushed before the caller goes on, so a killed
process loses nothing. A second file holds how far they have been delivered. When everything is
delivered both files shrink to nothing. There is no database in it because study folders may lie
on network storage, where file locks are unreliable.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

Event = dict[str, Any]

logger = logging.getLogger("darts_ray.tracking")


class Queued(NamedTuple):
    """An event, and where in the file the next one starts."""

    event: Event
    end: int


class Spool:
    """The queue in one folder; safe for use from several threads of one process.

    Args:
        folder: a local folder, created when missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._events = folder / "events.jsonl"
        self._delivered = folder / "delivered"
        self._attachments = folder / "attachments"
        self._identity = folder / "study_id"
        self._notes = folder / "notes.txt"
        self._lock = threading.RLock()
        if not self._identity.exists():
            self.study_id = uuid.uuid4().hex
        self._events.touch()
        self._close_torn_line()
        self._position = self._read_position()
        _write_atomically(self._delivered, str(self._position))
        if self.is_empty:
            shutil.rmtree(self._attachments, ignore_errors=True)

    @property
    def study_id(self) -> str:
        """Identifies the study's runs on the server, also after the driver is started again."""
        return self._identity.read_text()

    @study_id.setter
    def study_id(self, value: str) -> None:
        _write_atomically(self._identity, value)

    @property
    def is_empty(self) -> bool:
        """Whether every event has been delivered."""
        with self._lock:
            return self._position >= self._events.stat().st_size

    def append(self, event: Event) -> None:
        """Add an event (JSON values)."""
        line = json.dumps(event, default=str) + "\n"
        with self._lock, self._events.open("ab") as file:
            file.write(line.encode())

    def note(self, what: str) -> bool:
        """Remember a line as long as this folder exists; return whether it is new."""
        with self._lock:
            known = self._notes.read_text("utf-8") if self._notes.exists() else ""
            if what in known.splitlines():
                return False
            with self._notes.open("a", encoding="utf-8") as file:
                file.write(f"{what}\n")
            return True

    def attach(self, source: Path | bytes, name: str) -> str:
        """Keep the content until it is delivered, whatever becomes of the source.

        Returns:
            The path of the kept file, whose last part is `name`; put it into the event.
        """
        path = self._attachments / uuid.uuid4().hex / name
        path.parent.mkdir(parents=True)
        if isinstance(source, bytes):
            path.write_bytes(source)
        else:
            # Not a hard link: who owns the source may write into it again.
            shutil.copyfile(source, path)
        return str(path.relative_to(self._attachments))

    def attachment(self, kept: str) -> Path:
        """Return the file that `attach` kept."""
        return self._attachments / kept

    def read(self, limit: int) -> list[Queued]:
        """Return the oldest undelivered events, in order."""
        queued: list[Queued] = []
        with self._lock, self._events.open("rb") as file:
            file.seek(self._position)
            end = self._position
            for line in file:
                end += len(line)
                try:
                    queued.append(Queued(json.loads(line), end))
                except ValueError:
                    logger.warning("%s: skipped a line that is cut off", self._events)
                if len(queued) == limit:
                    break
            if not queued and end > self._position:
                self.mark_delivered([Queued({}, end)])
        return queued

    def mark_delivered(self, queued: list[Queued], keep: Collection[str] = ()) -> None:
        """Forget the oldest events and their attachments, but for those that others need."""
        position = queued[-1].end
        with self._lock:
            if position >= self._events.stat().st_size:
                # Events first: were the process killed in between, a position behind the end
                # of the file is recognised as stale when the folder is opened again.
                os.truncate(self._events, 0)
                position = 0
            self._position = position
            _write_atomically(self._delivered, str(position))
        for event, _ in queued:
            if "attachment" in event and event["attachment"] not in keep:
                shutil.rmtree(self.attachment(event["attachment"]).parent, ignore_errors=True)

    def _read_position(self) -> int:
        try:
            position = int(self._delivered.read_text())
        except (FileNotFoundError, ValueError):
            return 0
        return position if position <= self._events.stat().st_size else 0

    def _close_torn_line(self) -> None:
        """End a line that a kill cut off, so that the next event starts on its own line."""
        with self._events.open("rb+") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
