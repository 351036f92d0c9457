"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import multiprocessing.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# why: two test processes with two threads each wait for each other's threads on two cores; here,
# before anything loads torch, and for every process that a test starts
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for what Ray and others leave among the temporary files; it goes at the end.

    Its path is short because Ray puts Unix sockets below it, whose paths may have 107 bytes at
    most; pytest's tmp_path is too long for that. Subprocesses inherit all of this.
    """
    # settled first: they stay where pytest and multiprocessing keep them and clean up themselves
    tmp_path_factory.getbasetemp()
    multiprocessing.util.get_temp_dir()
    with (
        tempfile.TemporaryDirectory(prefix="dr", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(tempfile, "tempdir", folder)
        patch.setenv("TMPDIR", folder)
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # else Ray writes a token to ~/.ray, and a cluster of several nodes misses it elsewhere
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield Path(folder)
