"""Why a worker process ended without an exception: by which signal, or with its node.

Ray only says that the connection broke. Python's fault handler, which Ray switches on in its
workers, writes the name of a fatal signal to the worker's log; the one signal that leaves no
trace is SIGKILL.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import ray
from ray._private import worker as ray_worker
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LOG_WAIT_S = 15.0
"""How long another node may take to look into its log."""

_FATAL = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating-point exception": "SIGFPE",
    "Floating point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
}

logger = logging.getLogger("darts_ray.tune")


def explain_death(text: str) -> str:
    """Return why a trial's process ended.

    Args:
        text: Ray's account, without escape codes.
    """
    if re.search(r"(running|ran) low on memory|OutOfMemory", text):
        return (
            "The trial's process was killed because its node ran low on memory; use smaller"
            " batches or networks, or fewer trials at a time (resources.max_concurrent)."
        )
    if re.search(
        r"node (has )?died|node (is|was) dead|node failure|node was (lost|preempted)", text
    ):
        return "The trial's node was lost."
    pid, address = re.search(r"\bpid: (\d+)", text), re.search(r"\bip: (\S+)", text)
    if "connection error" in text and pid is not None and address is not None:
        return _by_signal(int(pid[1]), address[1])
    detail = re.search(r"Worker exit detail: ([^.\n]*)", text)
    return f"The trial's process ended: {detail[1] if detail else text.splitlines()[0]}."


def _by_signal(pid: int, address: str) -> str:
    try:
        name = _signal_of(pid, address)
    except Exception:  # whatever the cluster does, it must not hide how the trial ended
        logger.debug("The log of process %d on %s cannot be read", pid, address, exc_info=True)
        return f"The trial's process ({pid} on {address}) ended unexpectedly."
    if name is not None:
        return f"The trial's process ({pid} on {address}) was killed by {name}."
    return (
        f"The trial's process ({pid} on {address}) was killed by SIGKILL, as the system does when"
        " memory runs out."
    )


def _signal_of(pid: int, address: str) -> str | None:
    here: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    if address == here:
        return find_fatal_signal(pid)
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    node = next(node for node in nodes if node["Alive"] and node["NodeManagerAddress"] == address)
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    look = ray.remote(num_cpus=0, max_retries=0)(find_fatal_signal)
    name: str | None = ray.get(
        look.options(scheduling_strategy=there).remote(pid), timeout=LOG_WAIT_S
    )
    return name


def find_fatal_signal(pid: int) -> str | None:
    """Return the name of the signal that a worker of this node died of; None: no trace of one."""
    node = ray_worker._global_node
    assert node is not None
    for log in Path(node.get_logs_dir_path()).glob(f"worker-*-{pid}.err"):
        said = re.findall(r"Fatal Python error: (.+)", log.read_text(errors="replace"))
        if said:
            return next((name for text, name in _FATAL.items() if text in said[-1]), said[-1])
    return None
