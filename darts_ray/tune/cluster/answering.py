"""Whether a Ray cluster answers, asked from a process that can be ended at any time."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO

from darts_ray.errors import ResourceError

ANSWER_S = 60.0
"""How long a cluster may take to answer; Ray itself would wait for a quarter of an hour."""

PROGRESS_S = 15.0
REFUSED = ("InvalidAuthToken", "Unauthenticated", "AuthenticationError")

logger = logging.getLogger("darts_ray.tune")


def wait_for_answer(address: str, variables: Mapping[str, str]) -> None:
    """Return once the cluster at an address has answered.

    Args:
        address: host:port.
        variables: environment variables for the process that asks.

    Raises:
        ResourceError: it does not answer in time, wants another token, or is of another version.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    with tempfile.TemporaryFile("w+") as output:
        asking = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
        )
        try:
            _wait(asking, output, address)
        finally:
            asking.kill()
            asking.wait()
        said = _read(output)
    if asking.returncode == 0:
        return
    if any(word in said for word in REFUSED):
        raise ResourceError(
            f"resources.address: the Ray cluster at {address} asks for a token, and this process"
            f" {'has another one' if variables else 'has none'}. Copy the head's"
            " ~/.ray/auth_token to the same place here (or name it by RAY_AUTH_TOKEN_PATH), and"
            " leave RAY_AUTH_MODE unset or set it to token."
        )
    reason = next((line for line in reversed(said.splitlines()) if line.strip()), "no answer")
    raise ResourceError(
        f"resources.address: the Ray cluster at {address} does not answer: {reason.strip()} Start"
        " it (`ray start --head`), correct the address (RAY_ADDRESS or resources.address), or stop"
        " what is left of it (`ray stop`) and leave the address out to use this machine alone."
    )


def _wait(asking: subprocess.Popen[bytes], output: IO[str], address: str) -> None:
    """Wait for the process, for the answer that no waiting changes, or for the time to pass."""
    started = time.monotonic()
    told = started - PROGRESS_S + 5
    while asking.poll() is None:
        now = time.monotonic()
        if now - started > ANSWER_S or any(word in _read(output) for word in REFUSED):
            return
        if now - told > PROGRESS_S:
            told = now
            logger.warning(
                "Waiting for the Ray cluster at %s to answer: %.0f s of at most %.0f s",
                *(address, now - started, ANSWER_S),
            )
        time.sleep(0.1)


def _read(output: IO[str]) -> str:
    output.seek(0)
    return output.read()
