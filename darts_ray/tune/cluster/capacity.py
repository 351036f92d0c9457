"""Whether the cluster has, or will have, a node that a trial fits on."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from darts_ray.config import StudyConfig
from darts_ray.errors import ResourceError

GROWING_WAIT_S = 900.0
"""How long a cluster that grows may take: a cloud's machine, its setup commands, a GPU image."""

POLL_S = 1.0

logger = logging.getLogger("darts_ray.tune")


def wait_for_nodes(study: StudyConfig) -> list[dict[str, Any]]:
    """Return the live nodes, as `ray.nodes` does, once a trial's workers fit on them.

    Where nodes may still join, the autoscaler is asked for one, and waited for.

    Raises:
        ResourceError: a trial asks for what cannot be, or for more than any node has.
    """
    _check_sections(study)
    cpus, gpus = study.resources.cpus_per_trial, study.resources.gpus_per_trial
    workers = study.resources.workers_per_trial
    nodes = _live_nodes()
    if _fits(nodes, cpus, gpus, workers):
        return nodes
    wait_s = study.resources.wait_s
    if wait_s is None:
        wait_s = GROWING_WAIT_S if _is_growing() else 0.0
    if wait_s:
        nodes = _wait(cpus, gpus, workers, wait_s)
        if _fits(nodes, cpus, gpus, workers):
            return nodes
    if _fits(nodes, cpus, gpus, 1):
        room = _room(nodes, cpus, gpus)
        waited = f" (waited {wait_s:.0f} s)" if wait_s else ""
        raise ResourceError(
            f"resources: a trial asks for {workers} workers with {cpus:g} CPUs and {gpus:g} GPUs"
            f" each, and all nodes together have room for {room}{waited}. Use more nodes, or set"
            f" resources.workers_per_trial to {room} or less; if nodes are still to join, set"
            " resources.wait_s to the seconds to wait."
        )
    raise ResourceError(_shortage(nodes, cpus, gpus, wait_s))


def _check_sections(study: StudyConfig) -> None:
    gpus = study.resources.gpus_per_trial
    sections = {"search": study.search, "select": study.select, "retrain": study.retrain}
    for name, section in sections.items():
        device = section.get("device") if isinstance(section, dict) else None
        device = device or getattr(section, "device", None)
        if device == "cuda" and not gpus:
            raise ResourceError(
                f"{name}.device: cuda needs a GPU, and resources.gpus_per_trial is 0; set it to 1,"
                " or to a fraction to share a GPU between trials."
            )
    if study.search is not None and study.search.get("graphs") is True and not gpus:
        raise ResourceError(
            "search.graphs: CUDA graphs need a GPU, and resources.gpus_per_trial is 0; set it to"
            " 1, or to a fraction to share a GPU between trials, or set search.graphs=false."
        )


def _wait(cpus: float, gpus: float, workers: int, wait_s: float) -> list[dict[str, Any]]:
    """Ask for nodes that have both; return the live nodes when there are, or time is up."""
    if workers == 1:
        logger.warning(
            "resources: no node has %g CPUs and %g GPUs yet; waiting up to %.0f s for one",
            *(cpus, gpus, wait_s),
        )
    else:
        logger.warning(
            "resources: no room yet for %d workers with %g CPUs and %g GPUs each; waiting up to"
            " %.0f s for nodes",
            *(workers, cpus, gpus, wait_s),
        )
    end = time.monotonic() + wait_s
    request_resources(bundles=[{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}] * workers)
    try:
        while not _fits(nodes := _live_nodes(), cpus, gpus, workers) and time.monotonic() < end:
            time.sleep(min(POLL_S, wait_s))
        return nodes
    finally:
        # why: a request stands until it is replaced, and would hold the node for ever
        request_resources(bundles=[])


def _shortage(nodes: Sequence[dict[str, Any]], cpus: float, gpus: float, wait_s: float) -> str:
    most_cpus, most_gpus = (max(column) for column in zip(*map(_offer, nodes), strict=True))
    if gpus > most_gpus:
        remedy = (
            "set resources.gpus_per_trial=0 to run on CPUs"
            if most_gpus == 0
            else f"set resources.gpus_per_trial to {most_gpus:g} or less"
        )
    else:
        remedy = f"set resources.cpus_per_trial to {most_cpus:g} or less"
    waited = f" (waited {wait_s:.0f} s)" if wait_s else ""
    return (
        f"resources: a trial asks for {cpus:g} CPUs and {gpus:g} GPUs, and no node has both;"
        f" the largest have {most_cpus:g} CPUs and {most_gpus:g} GPUs{waited}. Use larger nodes,"
        f" or {remedy}; if nodes are still to join, set resources.wait_s to the seconds to wait."
    )


def _live_nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _fits(nodes: Sequence[dict[str, Any]], cpus: float, gpus: float, workers: int) -> bool:
    return _room(nodes, cpus, gpus) >= workers


def _room(nodes: Sequence[dict[str, Any]], cpus: float, gpus: float) -> int:
    """Return for how many workers the nodes are large enough."""
    rooms = 0
    for has_cpus, has_gpus in map(_offer, nodes):
        by_gpus = has_gpus // gpus if gpus else math.inf
        rooms += int(min(has_cpus // cpus, by_gpus))
    return rooms


def _offer(node: dict[str, Any]) -> tuple[float, float]:
    return node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)


def _is_growing() -> bool:
    """Whether `ray up`, which leaves this file on its head, or KubeRay made this cluster."""
    bootstrap = Path("~/ray_bootstrap_config.yaml").expanduser()
    return bootstrap.exists() or "RAY_USAGE_STATS_KUBERAY_IN_USE" in os.environ
