"""The background thread that takes events from the queue on disk to MLflow."""

from __future__ import annotations

import atexit
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from darts_ray.tracking.backend import RunStore
from darts_ray.tracking.server import brief
from darts_ray.tracking.spool import Event, Queued, Spool

logger = logging.getLogger("darts_ray.tracking")

_BATCH = 500
_MAX_ATTEMPTS = 4
_FIRST_PAUSE_S = 1.0
_MAX_PAUSE_S = 30.0
_REFUSALS = (
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "NOT_IMPLEMENTED",
    "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST",
)

# One queue per folder and process, however many copies of a tracker there are: Ray Tune pickles
# callbacks together with what they hold.
_open: dict[Path, Delivery] = {}
_open_lock = threading.Lock()


class Delivery:
    """Delivers in order; waits while the server is away, drops only what it refuses.

    Args:
        spool: the queue.
        store: the server.
    """

    def __init__(self, spool: Spool, store: RunStore) -> None:
        self.spool = spool
        self.store = store
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._hurry = False
        self._outages = 0
        self._wait_s = 0.0
        self._seen: set[tuple[str, str]] = set()
        self._aside: set[str] = set()

    def put(self, event: Event) -> None:
        """Queue an event; a full disk costs the event, not the study."""
        try:
            self.spool.append(event)
        except OSError as error:
            self._warn_once(event["op"], error)
        with self._condition:
            self._start()
            self._condition.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until the queue is empty; False once the server is found away, or too slow."""
        with self._condition:
            if self.spool.is_empty:
                return True
            self._start()
            outages = self._outages
            self._hurry = True
            self._condition.notify_all()
            self._condition.wait_for(
                lambda: self.spool.is_empty or self._outages > outages, timeout_s
            )
            return self.spool.is_empty

    def stop(self) -> None:
        """End the thread after the request it is in; the queue stays on disk."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=5)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._deliver_queue()
            except OSError as error:  # the queue's own files: full disk, folder removed
                self._warn_once("queue", error)
                self._wait_s = _MAX_PAUSE_S
            with self._condition:
                self._condition.notify_all()

    def _wait_for_work(self) -> bool:
        """Return True when there is something to deliver, False when it is time to stop."""
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or not self.spool.is_empty)
            if self._wait_s:
                self._condition.wait_for(lambda: self._stopping or self._hurry, self._wait_s)
            self._hurry = False
            return not self._stopping

    def _deliver_queue(self) -> None:
        """Deliver until the queue is empty, the server goes away or the thread is to stop."""
        while queued := self.spool.read(_BATCH):
            for group in _group(queued):
                for event in _merge(group):
                    # A queue that was closed may be open again elsewhere: hands off.
                    if not self._deliver(event) or self._stopping:
                        return
                self.spool.mark_delivered(group, keep=self._aside)

    def _deliver(self, event: Event) -> bool:
        """Return whether the next event may go: this one is written, refused or set aside.

        Only a refusal is final. Everything else waits: an event with a file at the end of the
        queue, as the artifact store or the registry may be down alone, any other in its place.
        """
        attachment = event.get("attachment")
        if attachment in self._aside:  # once round the queue
            self._aside.clear()
            self._note_outage(ConnectionError("the artifact store or the registry fails"))
            return False
        for attempt in range(_MAX_ATTEMPTS):
            try:
                self.store.apply(event)
            except Exception as error:  # no tracking error may end the study or this thread
                if _is_refusal(error):
                    self._warn_once(event["op"], error)
                    return True
                answers = self.store.answers()
                if answers and attachment is not None and attempt:
                    self.spool.append(event)
                    self._aside.add(attachment)
                    return True
                if not answers or attempt == _MAX_ATTEMPTS - 1:
                    self._note_outage(error)
                    return False
            else:
                self._note_answer()
                return True
            if self._pause(_FIRST_PAUSE_S * 2**attempt):
                return False
        return False

    def _pause(self, seconds: float) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self._stopping, seconds)

    def _note_outage(self, error: Exception) -> None:
        if not self._wait_s:
            logger.warning(
                "MLflow does not answer (%s); the study goes on, and what is missed is written"
                " when it is back or when the study is resumed",
                brief(error),
            )
        with self._condition:
            self._wait_s = min(max(2 * self._wait_s, _FIRST_PAUSE_S), _MAX_PAUSE_S)
            self._outages += 1

    def _note_answer(self) -> None:
        if self._wait_s:
            logger.warning("MLflow answers again; writing what was missed")
            self._wait_s = 0.0

    def _warn_once(self, what: str, error: Exception) -> None:
        if (what, brief(error)) not in self._seen:
            self._seen.add((what, brief(error)))
            logger.warning("MLflow lacks a %s event: %s", what, brief(error))


def _is_refusal(error: Exception) -> bool:
    """Whether trying again cannot help: what the event speaks of is invalid or unknown."""
    code = getattr(error, "error_code", None)
    return isinstance(error, LookupError | TypeError) or code in _REFUSALS


def _group(queued: list[Queued]) -> Iterator[list[Queued]]:
    """Split into single events and runs of epochs, which may go to the server together."""
    for is_epoch, group in itertools.groupby(queued, lambda item: item.event["op"] == "log_epoch"):
        if is_epoch:
            yield list(group)
        else:
            yield from ([item] for item in group)


def _merge(group: list[Queued]) -> Iterator[Event]:
    """Turn a run of epochs into one request per trial; other events stay as they are."""
    if group[0].event["op"] != "log_epoch":
        yield group[0].event
        return
    rows: dict[str, list[Event]] = {}
    for event, _ in group:
        rows.setdefault(event["trial"], []).append(event)
    for trial, events in rows.items():
        yield {"op": "log_epochs", "trial": trial, "rows": events}


def delivery_of(folder: Path, make: Callable[[], Delivery]) -> Delivery:
    """Return the delivery of a queue's folder, made now where this process has none."""
    with _open_lock:
        if folder not in _open:
            _open[folder] = make()
            atexit.unregister(_close_all)
            atexit.register(_close_all)
        return _open[folder]


def stop_delivery(folder: Path) -> None:
    """End the thread of a queue's folder, if there is one."""
    with _open_lock:
        delivery = _open.pop(folder, None)
    if delivery is not None:
        delivery.stop()


def _close_all(timeout_s: float = 30.0) -> None:
    """Deliver what a program that ends without `close` has left.

    A program that ends before mlflow was loaded is too late for that: Python is shutting down,
    and the events stay in the queue on disk.
    """
    for delivery in list(_open.values()):
        delivery.flush(timeout_s)
        delivery.stop()
