"""Which process holds the lock of a study."""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass

import psutil


@dataclass(frozen=True)
class Holder:
    """Who holds a lock; `started` tells a process from a later one with its number."""

    token: str
    host: str
    pid: int
    started: float

    @classmethod
    def here(cls) -> Holder:
        """Return this process, with a token of its own at each call."""
        started = psutil.Process().create_time()
        return cls(uuid.uuid4().hex, socket.gethostname(), os.getpid(), started)

    @classmethod
    def from_json(cls, content: bytes) -> Holder:
        """Read what `to_json` has written.

        Raises:
            ValueError, KeyError, TypeError: it is something else, or cut.
        """
        values = json.loads(content)
        return cls(values["token"], values["host"], values["pid"], values["started"])

    def to_json(self) -> str:
        """Return a text that `from_json` reads."""
        return json.dumps(asdict(self))

    @property
    def is_here(self) -> bool:
        """Whether it was a process of this host."""
        return self.host == socket.gethostname()

    def has_died_here(self) -> bool:
        """Tell whether it was a process of this host that is there no more."""
        if not self.is_here:
            return False
        try:
            process = psutil.Process(self.pid)
            started = process.create_time()
            # a killed process stays until its parent has asked for it, in containers for ever
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        return is_zombie or abs(started - self.started) > 1
