"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ray_environment() -> Iterator[dict[str, str]]:
    """Environment of a subprocess that starts Ray: no telemetry, its files in a folder of ours.

    The folder's path is short because Ray puts Unix sockets below it, whose paths may have 107
    bytes at most; pytest's tmp_path is too long for that.
    """
    folder = Path(tempfile.mkdtemp(prefix="dr"))
    yield {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(folder)}
    shutil.rmtree(folder, ignore_errors=True)
