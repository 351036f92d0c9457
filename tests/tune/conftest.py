"""A small Ray for this folder's tests; nothing of it is left outside temporary folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for Ray's Unix sockets (107 bytes)."""
    folder = Path(tempfile.mkdtemp(prefix="dr"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_variables(short_folder: Path) -> dict[str, str]:
    """Environment of a Ray that keeps to itself.

    HOME stays: the token there is Ray's, which each process reads once for all its clusters.
    """
    return {
        "RAY_TMPDIR": str(short_folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_LOGGER_LEVEL": "warning",
        # on few cores a busy driver would otherwise wait for each worker to spin down
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def local_ray(ray_variables: dict[str, str]) -> Iterator[None]:
    """A Ray with two CPUs."""
    before = dict(os.environ)
    os.environ.update(ray_variables)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()
        os.environ.clear()
        os.environ.update(before)
