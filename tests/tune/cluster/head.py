"""A head node of its own for tests that connect to one."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_head(
    environment: Mapping[str, str], session: Path, log: Path, *options: str
) -> Iterator[str]:
    """Start a head node with one CPU; yield its address."""
    port = free_port()
    command = [*RAY, "start", "--head", "--block", "--num-cpus=1", f"--port={port}"]
    command += [f"--temp-dir={session}", "--dashboard-agent-listen-port=0", *options]
    with log.open("w") as output:
        head = psutil.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        started = head.children(recursive=True)
        head.terminate()
        head.wait(60)
        _, alive = psutil.wait_procs(started, timeout=10)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
