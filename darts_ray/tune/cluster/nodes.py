"""Whether every node sees the study's folder and its data."""

from __future__ import annotations

import logging
import time
from typing import Any

import pyarrow as pa
import pyarrow.fs
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from darts_ray.config import DataConfig
from darts_ray.data import ImageInfo, TextInfo, accept_listing, open_data, shared_listing
from darts_ray.errors import DataError, ResourceError, StudyError
from darts_ray.location import child_location

PROBE_S = 300.0
"""A node that has not answered by then counts as unreachable, but for what its data take."""

PROBE_S_PER_IMAGE = 0.005
"""Finding an image on a busy file server, or decoding it; three times what it usually takes."""

PROGRESS_S = 60.0

logger = logging.getLogger("darts_ray.tune")


def probe_limit(info: ImageInfo | TextInfo) -> float:
    """Return the seconds a node may take to read the data for the first time."""
    images = info.num_train if isinstance(info, ImageInfo) else 0
    return PROBE_S + PROBE_S_PER_IMAGE * images


def check_nodes(
    nodes: list[dict[str, Any]],
    data: DataConfig,
    info: ImageInfo | TextInfo,
    storage: str,
    probe_name: str,
) -> None:
    """Read the probe file and the data on every node.

    Args:
        nodes: as `ray.nodes` describes them.
        data: which data.
        info: what they are, as this machine sees them.
        storage: absolute path or URI of the study folder.
        probe_name: a file in it that holds its own name.

    Raises:
        ResourceError: a node does not answer, or cannot run the package.
        StudyError: a node does not see the study folder.
        DataError: a node cannot read the data.
    """
    # why: to list a million images once is enough for a file server
    listing = ray.put(shared_listing(data))
    answers = {}
    for node in nodes:
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        probe = ray.remote(num_cpus=0, max_retries=0)(_probe_node)
        answer = probe.options(scheduling_strategy=here).remote(data, listing, storage, probe_name)
        answers[answer] = node["NodeManagerAddress"]
    for answer in _wait(answers, probe_limit(info)):
        address = answers[answer]
        try:
            storage_error, data_error = ray.get(answer)
        except ray.exceptions.RayError as error:
            raise ResourceError(
                f"Node {address}: a task cannot run there: {str(error).splitlines()[0]} Is"
                " darts_ray installed on every node, in the same version?"
            ) from error
        if storage_error:
            raise StudyError(
                f"output: node {address} does not see {storage} ({storage_error}). With several"
                " nodes the output must be on a shared file system or at a URI such as"
                " s3://bucket/runs."
            )
        if data_error:
            raise DataError(
                f"data: node {address} cannot read it: {data_error} Put the data on a shared file"
                " system, or at the same path on every node."
            )


def _wait(answers: dict[Any, str], limit_s: float) -> list[Any]:
    """Wait for all nodes, and say now and then which ones are still at it."""
    started = time.monotonic()
    late = list(answers)
    while late and (left := started + limit_s - time.monotonic()) > 0:
        wait_s = min(left, PROGRESS_S)
        _, late = ray.wait(list(answers), num_returns=len(answers), timeout=wait_s)
        if late and left > wait_s:
            logger.warning(
                "Nodes %s are still reading the data: %.0f s of at most %.0f s",
                ", ".join(answers[answer] for answer in late),
                time.monotonic() - started,
                limit_s,
            )
    if late:
        names = ", ".join(answers[answer] for answer in late)
        raise ResourceError(
            f"Nodes {names}: no answer within {limit_s:.0f} s. Look at their health with"
            " `ray status`, or remove them."
        )
    return list(answers)


def _probe_node(
    data: DataConfig, listing: tuple[str, bytes] | None, storage: str, probe_name: str
) -> tuple[str, str]:
    """Return what is wrong with storage and data as one node sees them; empty where all is well.

    The data's cache is made on the way, so trials find it.
    """
    storage_error = data_error = ""
    try:
        place = child_location(storage, probe_name)
        fs, path = pyarrow.fs.FileSystem.from_uri(place)
        with fs.open_input_stream(path, compression=None) as stream:
            if bytes(stream.read()).decode() != probe_name:
                storage_error = "another folder is at that place"
    except (OSError, pa.ArrowException) as error:
        storage_error = str(error)
    try:
        accept_listing(data, listing)
        open_data(data)
    except DataError as error:
        data_error = str(error)
    return storage_error, data_error
