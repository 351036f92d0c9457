"""Says what has happened when the cluster's control service (GCS) is gone.

Ray ends a driver that has lost it, from outside Python and after a minute of silence, so nobody
would learn how to go on.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

ASK_EVERY_S = 5.0
DOUBT_S = 15.0
RAY_ENDS_S = 60.0
"""When Ray ends a driver, unless RAY_gcs_rpc_server_reconnect_timeout_s says otherwise."""

logger = logging.getLogger("darts_ray.tune")


@contextmanager
def watch_control_service(storage: str) -> Iterator[None]:
    """Watch the control service while the block runs; end this process if it stays away.

    Args:
        storage: the study folder, for the message that says how to go on.
    """
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    stop = threading.Event()
    arguments = (host.strip("[]"), int(port), storage, stop)
    thread = threading.Thread(target=_watch, args=arguments, name="control-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()


def _watch(host: str, port: int, storage: str, stop: threading.Event) -> None:
    limit = float(os.environ.get("RAY_gcs_rpc_server_reconnect_timeout_s", RAY_ENDS_S))
    answered, told = time.monotonic(), False
    while not stop.wait(ASK_EVERY_S):
        silence = time.monotonic() - answered
        if _answers(host, port):
            answered, told = time.monotonic(), False
        elif silence > limit - 2 * ASK_EVERY_S and not stop.is_set():
            logger.error(
                "The Ray cluster's control service at %s:%d is gone, so the study stops here."
                " Trials keep their last checkpoints. Start the cluster again, then go on with:"
                "  darts-ray resume %s",
                *(host, port, storage),
            )
            os._exit(1)  # why: the main thread may be inside Ray, which waits for the service
        elif silence > DOUBT_S and not told:
            told = True
            logger.warning(
                "The Ray cluster's control service at %s:%d has not answered for %.0f s",
                *(host, port, silence),
            )


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=ASK_EVERY_S):
            return True
    except OSError:
        return False
