"""Ctrl-C and SIGTERM while Tune runs: both end it in order and are told to the caller."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from darts_ray.errors import Terminated


@contextmanager
def interrupts() -> Iterator[None]:
    """Raise what Tune swallows: after a first SIGINT it saves, cleans up and just returns.

    A SIGTERM, which Kubernetes and SLURM send, is passed on to Tune as SIGUSR1, to which it does
    the same. Tune also leaves its signal handlers behind, after which Ctrl-C would do nothing.

    Raises:
        KeyboardInterrupt: after SIGINT.
        Terminated: after SIGTERM.
    """
    catches = not int(os.environ.get("TUNE_DISABLE_SIGINT_HANDLER", "0"))
    if threading.current_thread() is not threading.main_thread() or not catches:
        yield
        return
    numbers = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    terminated = False

    def terminate(number: int, frame: Any) -> None:
        nonlocal terminated
        if terminated or signal.getsignal(signal.SIGUSR1) == before[signal.SIGUSR1]:
            raise Terminated  # Tune is not listening yet, or somebody is impatient
        terminated = True
        signal.raise_signal(signal.SIGUSR1)

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
        # why: Tune puts the former handler back when, and only when, a signal has come
        interrupted = signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if terminated:
        raise Terminated
    if interrupted:
        raise KeyboardInterrupt


@contextmanager
def kept_sigterm() -> Iterator[None]:
    """Give SIGTERM back to whom it belonged: Ray's own handler ends a driver with a stack dump."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
