"""Ctrl-C and SIGTERM end a command with one line that says how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from darts_ray.cli.printing import stderr
from darts_ray.errors import Terminated

INTERRUPTED = 130  # what a shell reports for Ctrl-C
TERMINATED = 143  # and for SIGTERM


@contextmanager
def interruptible(folder: str) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one line that says how to go on."""
    before = signal.getsignal(signal.SIGTERM)
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as interruption:
        text = f"what is finished is kept. Go on with:  darts-ray resume {folder}"
        if "://" not in folder and not Path(folder, "study.yaml").exists():
            text = "nothing had been started."
        terminated = isinstance(interruption, Terminated)
        what = "Terminated" if terminated else "Interrupted"
        stderr.print(f"{what}; {text}", soft_wrap=True)
        raise typer.Exit(TERMINATED if terminated else INTERRUPTED) from None
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated
