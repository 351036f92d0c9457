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
    address in the configuration, RAY_ADDRESS (set inside jobs), a cluster that `ray start` made
    on this machine. Ray's telemetry is off unless RAY_USAGE_STATS_ENABLED says otherwise.

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
        # why: "auto" would also join another program's embedded Ray, and die with it
        ray.init(address=address, include_dashboard=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        where = f"at {address}" if address else "on this machine"
        raise ResourceError(
            f"resources.address: the Ray cluster {where} cannot be reached: {reason} Start it"
            " (`ray start --head`), correct the address, or stop what is left of it (`ray stop`)"
            " and leave the address out to use this machine alone."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
