"""Finds the Ray cluster that a study runs on, or starts an embedded one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private.utils import read_ray_address

from darts_ray.config import ResourcesSection
from darts_ray.errors import ResourceError
from darts_ray.tune.cluster.answering import wait_for_answer
from darts_ray.tune.cluster.surroundings import folder_for_ray, ray_environment, token_variables
from darts_ray.tune.failures.interruption import kept_sigterm

_SUBMIT = "ray job submit --working-dir . -- python pipelines/study.py ..."
_CLIENT = (
    "{} through which a study's progress and errors are lost. Submit the study"
    f" ({_SUBMIT}), or run it on the cluster itself, where it needs no address."
)


@contextmanager
def start_ray(resources: ResourcesSection) -> Iterator[None]:
    """Connect to the cluster this process runs in, or start an embedded Ray when there is none.

    Looked for in this order: a Ray that is initialised already (used and left running), the
    address in the configuration, RAY_ADDRESS (set inside jobs), a cluster that `ray start` made
    on this machine. Ray's telemetry is off unless RAY_USAGE_STATS_ENABLED says otherwise.

    Raises:
        ResourceError: a cluster was named and does not answer, or cannot be joined that way; or
            an embedded Ray finds no folder to work in.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # why: an embedded Ray's workers would tell the terminal about every checkpoint
    os.environ.setdefault("RAY_LOGGER_LEVEL", "warning")
    if ray.is_initialized():
        if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
            raise ResourceError(_CLIENT.format("This process is connected through Ray Client,"))
        with ray_environment({}):
            yield
        return
    address = _address(resources)
    # why: another program's embedded Ray is no cluster to join; it goes when that program ends
    address = address or read_ray_address()
    variables = token_variables(address)
    if address is not None:
        wait_for_answer(address, variables)
    folder = None if address is not None else str(folder_for_ray() / "ray")
    with ray_environment(variables):
        try:
            with kept_sigterm():
                ray.init(
                    address=address or "local",
                    include_dashboard=False,
                    logging_level=logging.WARNING,
                    _temp_dir=folder,
                )
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise ResourceError(_failure(address, error)) from error
        try:
            yield
        finally:
            ray.shutdown()


def _address(resources: ResourcesSection) -> str | None:
    """Return the named cluster's host:port; None where none is named.

    Raises:
        ResourceError: the address is of a kind that a study cannot use.
    """
    name, address = "resources.address", resources.address
    if address in (None, "auto"):
        name, address = "RAY_ADDRESS", os.environ.get("RAY_ADDRESS") or None
    if address in (None, "auto", "local"):
        return None
    assert address is not None
    leave = "`unset RAY_ADDRESS`" if name == "RAY_ADDRESS" else "leave resources.address out"
    if address.startswith("ray://"):
        raise ResourceError(_CLIENT.format(f"{name}: {address} is an address of Ray Client,"))
    if "://" in address:
        raise ResourceError(
            f"{name}: {address} is an address for `ray job submit`; a study cannot join the"
            f" cluster through it. Submit the study ({_SUBMIT}), or {leave} to run it on this"
            " machine."
        )
    return address


def _failure(address: str | None, error: Exception) -> str:
    reason = next(iter(str(error).strip().splitlines()), repr(error))
    if address is None:
        return (
            f"resources: an embedded Ray cannot be started here: {reason} Look for the cause in"
            " the logs below RAY_TMPDIR (default: /tmp/ray/session_latest/logs)."
        )
    return (
        f"resources.address: the Ray cluster at {address} cannot be joined: {reason} Start the"
        " study on one of the cluster's machines, or submit it with `ray job submit`."
    )
