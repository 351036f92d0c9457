"""Finds the Ray cluster that a study runs on, or starts an embedded one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from darts_ray.config import ResourcesSection
from darts_ray.errors import ResourceError


@contextmanager
def start_ray(resources: ResourcesSection) -> Iterator[None]:
    """Connect to the cluster this process runs in, or start an embedded Ray when there is none.

    Looked for in this order: a Ray that is initialised already (used and left running), the
    address in the configuration, RAY_ADDRESS (set inside jobs), a cluster on this machine.
    Ray's telemetry is off unless RAY_USAGE_STATS_ENABLED says otherwise.

    Raises:
        ResourceError: a cluster was named and does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # why: an embedded Ray's workers would tell the terminal about every checkpoint
    os.environ.setdefault("RAY_LOGGER_LEVEL", "warning")
    if ray.is_initialized():
        yield
        return
    address = resources.address or os.environ.get("RAY_ADDRESS")
    try:
        _connect(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ResourceError(
            f"resources.address: the Ray cluster {address or 'on this machine'} cannot be"
            f" reached: {str(error).splitlines()[0] if str(error) else error!r} Start it, correct"
            " the address, or leave it out to use this machine alone."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    if address is not None:
        ray.init(address=address, logging_level=logging.WARNING)
        return
    try:
        ray.init(address="auto", logging_level=logging.WARNING)
    except ConnectionError:  # no cluster on this machine
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
