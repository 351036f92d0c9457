"""The lock of a study on an object store: a lease that one driver holds and renews.

Contract (tests/study/files/test_lock.py runs it for every kind of lock):

- At most one driver holds the lock. Who cannot get it is told who has it.
- A holder that is killed loses it: locally at once, here after `LEASE_SECONDS`, or at once for a
  driver on the same host.
- A holder that lost it, because it was suspended or cut off for longer than that, notices at the
  next renewal; it writes nothing more into the study folder and its run is stopped.
- Only one's own lock is ever deleted.

Here this rests on one promise of the store: what has been written is seen by every later read
and listing (S3, GCS, Azure and MinIO give it; they need no conditional writes). Whoever wants the
lease first writes a claim of its own, then lists the claims; of two that overlap at least one
sees the other, and who sees another withdraws. Ages are differences of times that the store
itself has noted, so the hosts' clocks do not matter.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.fs

from darts_ray.errors import StudyError
from darts_ray.location import with_patience
from darts_ray.study.files.holder import Holder

LEASE_SECONDS = 120.0
"""A driver that has not renewed its lease for this long counts as dead."""
CLAIM_SECONDS = 30.0
"""Between a claim and the lease lie a few requests; an older claim is that of a dead driver."""
POLL_SECONDS = 2.0
_ATTEMPTS = 20


class Lease:
    """The lease of one study.

    Args:
        fs: the object store.
        path: of the lease there; claims get names that begin with it.
        study: what error messages name.

    Attributes:
        lost: whether another driver has taken it over.
    """

    def __init__(self, fs: pyarrow.fs.FileSystem, path: str, study: str) -> None:
        self._fs = fs
        self._path = path
        self._study = study
        self._me = Holder.here()
        self._stop = threading.Event()
        self.lost = False

    @contextmanager
    def held(self, *, wait: bool) -> Iterator[None]:
        """Hold the lease while the block runs.

        Args:
            wait: wait for a lease that nobody renews, until it has run out.

        Raises:
            StudyError: another driver holds it, or has taken it over while the block ran.
        """
        self._acquire(wait)
        in_main = threading.current_thread() is threading.main_thread()
        thread = threading.Thread(target=self._keep, args=(in_main,), name="study-lease")
        thread.daemon = True
        thread.start()
        try:
            yield
        except KeyboardInterrupt:
            if self.lost:
                raise self.lost_error() from None
            raise
        finally:
            self._stop.set()
            thread.join()
            self._release()

    def lost_error(self) -> StudyError:
        """Return what a driver without its lease has to say."""
        return StudyError(
            f"Study folder {self._study}: this driver was cut off for so long that another one has"
            " taken over the study; this one has stopped."
        )

    def _acquire(self, wait: bool) -> None:
        seen: tuple[str, int] | None = None
        withdrawn = 0
        place = f"Study folder {self._study}: its lock"
        while (obstacle := with_patience(self._try, place)) is not None:
            holder, renewed, age = obstacle
            if holder is None:
                withdrawn += 1
                if withdrawn == _ATTEMPTS:
                    raise StudyError(
                        f"Study folder {self._study}: other drivers keep beginning this study at"
                        " the same moment. Start one alone."
                    )
                time.sleep(random.uniform(0.05, 0.5))
                continue
            state = (holder.token, renewed)
            if not wait or (seen is not None and state != seen):
                raise self._refusal(holder, age)
            seen = state
            time.sleep(POLL_SECONDS)

    def _refusal(self, holder: Holder, age: float) -> StudyError:
        return StudyError(
            f"Study folder {self._study}: a driver on {holder.host} (process {holder.pid}) was"
            f" working on this study {age:.0f} s ago. Stop it, or if it died wait"
            f" {max(LEASE_SECONDS - age, 0):.0f} s; `--resume` waits by itself."
        )

    def _try(self) -> tuple[Holder | None, int, float] | None:
        """Take the lease if it is free.

        Returns:
            None on success; else its holder (None: another driver is just trying too), when it
            was renewed in the store's nanoseconds, and how many seconds ago.
        """
        claim = f"{self._path}.{self._me.token}"
        self._write(claim)
        try:
            now = self._modified(claim)
            assert now is not None
            for other in self._claims():
                age = (now - other.mtime_ns) / 1e9
                if other.path != claim and age < CLAIM_SECONDS:
                    return None, 0, age
            holder, renewed = self._read(), self._modified(self._path)
            if holder is not None and renewed is not None and holder.token != self._me.token:
                age = (now - renewed) / 1e9
                if age < LEASE_SECONDS and not holder.has_died_here():
                    return holder, renewed, age
            self._write(self._path)
            holder = self._read()
            if holder is None or holder.token != self._me.token:
                return holder, self._modified(self._path) or 0, 0.0
            return None
        finally:
            self._fs.delete_file(claim)

    def _keep(self, in_main: bool) -> None:
        """Renew until the block ends; stop the run of a holder that has lost the lease."""
        renewed = time.monotonic()
        while not self._stop.wait(LEASE_SECONDS / 4):
            try:
                late = time.monotonic() - renewed > LEASE_SECONDS / 2
                holder = self._read()
                is_mine = holder is not None and holder.token == self._me.token
                # why: who is late may meet a driver that is just taking over
                self.lost = not is_mine or (late and self._try() is not None)
                if not self.lost and not late:
                    self._write(self._path)
            except (OSError, pa.ArrowException):
                continue  # an outage of the store keeps others out as well
            if self.lost:
                if in_main:
                    os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C: trials are stopped
                return
            renewed = time.monotonic()

    def _release(self) -> None:
        try:
            holder = self._read()
            if holder is not None and holder.token == self._me.token:
                self._fs.delete_file(self._path)
        except (OSError, pa.ArrowException):
            return  # it runs out by itself

    def _claims(self) -> list[pyarrow.fs.FileInfo]:
        folder, _, name = self._path.rpartition("/")
        selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
        return [
            info
            for info in self._fs.get_file_info(selector)
            if info.base_name.startswith(f"{name}.")
        ]

    def _modified(self, path: str) -> int | None:
        """Return when the store has taken a file in, in its own nanoseconds; None: no file."""
        time_ns: int | None = self._fs.get_file_info(path).mtime_ns
        return time_ns

    def _write(self, path: str) -> None:
        with self._fs.open_output_stream(path, compression=None) as stream:
            stream.write(self._me.to_json().encode())

    def _read(self) -> Holder | None:
        try:
            with self._fs.open_input_stream(self._path, compression=None) as stream:
                return Holder.from_json(bytes(stream.read()))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            # of version 0.1, or cut: it counts until it is too old
            return Holder("", "another host", 0, 0.0)
