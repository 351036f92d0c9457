"""What this machine has for a study, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil
import torch
from packaging.requirements import Requirement

LOW_DISK_BYTES = 10 * 2**30
LOW_MEMORY_BYTES = 4 * 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        subject: what was looked at.
        value: what was found.
        remedy: what to do about it; empty when all is well.
        blocking: no study can run before this is mended.
    """

    subject: str
    value: str
    remedy: str = ""
    blocking: bool = False


def examine(output: Path) -> list[Finding]:
    """Look at this machine without starting anything.

    Args:
        output: folder whose disk would hold the studies; need not exist yet.
    """
    return [*_packages(), *_accelerators(), *_machine(output)]


def _packages() -> list[Finding]:
    findings = [Finding("Python", platform.python_version())]
    for text in requires("darts_ray") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            remedy = f"pip install '{requirement.name}{requirement.specifier}'"
            findings.append(Finding(requirement.name, "missing", remedy, blocking=True))
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        remedy = "" if fits else f"pip install '{requirement.name}{requirement.specifier}'"
        findings.append(Finding(requirement.name, found, remedy, blocking=not fits))
    return findings


def _accelerators() -> list[Finding]:
    if not torch.cuda.is_available():
        built_for = torch.version.cuda
        remedy = "" if built_for is None else "none is visible; searches run on the CPU"
        return [Finding("CUDA", f"no GPU (torch built for {built_for or 'CPU only'})", remedy)]
    findings = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        text = f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
        findings.append(Finding(f"GPU {index}", text))
    return findings


def _usable_cores() -> int:
    """Cores this process may use; fewer than the machine's inside a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _machine(output: Path) -> list[Finding]:
    memory = psutil.virtual_memory()
    existing = output.absolute()
    while not existing.exists():
        existing = existing.parent
    disk = shutil.disk_usage(existing)
    return [
        Finding("CPU cores", str(_usable_cores())),
        Finding(
            "memory",
            f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
            "" if memory.available > LOW_MEMORY_BYTES else "a study wants 4 GiB at least",
        ),
        Finding(
            f"disk of {existing}",
            f"{disk.free / 2**30:.1f} GiB free",
            "" if disk.free > LOW_DISK_BYTES else "checkpoints of long studies want 10 GiB",
        ),
    ]
