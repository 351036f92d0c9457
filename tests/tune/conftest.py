"""A small Ray for this folder's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="session", autouse=True)
def quiet_ray() -> Iterator[None]:
    """What all Rays here and in subprocesses are told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_LOGGER_LEVEL", "warning")
        yield


@pytest.fixture(scope="package", autouse=True)
def ray_stopped() -> Iterator[None]:
    """Stop at the end what `local_ray` started."""
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def local_ray() -> None:
    """A Ray with two CPUs; this folder's files share it, because it takes seconds to start."""
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
