"""What this machine has for a study, and what is missing.

Nothing is imported that may be missing or takes long, so that every gap can be reported.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

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
    """Ask the driver and not torch, which takes seconds to import and may be missing."""
    query = "--query-gpu=name,memory.free,memory.total"
    try:
        said = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    built_for = _torch_cuda()
    lines = [line.split(", ") for line in said.splitlines() if line.count(", ") == 2]
    if not lines:
        remedy = "" if built_for is None else "none is visible; searches run on the CPU"
        return [Finding("CUDA", f"no GPU (torch built for {built_for or 'CPU only'})", remedy)]
    remedy = "" if built_for else "torch is built for CPUs only; install a CUDA build"
    return [
        Finding(
            f"GPU {index}",
            f"{name}, {int(free) / 1024:.0f} of {int(total) / 1024:.0f} GiB free",
            remedy,
        )
        for index, (name, free, total) in enumerate(lines)
    ]


def _torch_cuda() -> str | None:
    """Return the CUDA version that torch is built for, as its version file says."""
    spec = find_spec("torch")
    places = [] if spec is None else spec.submodule_search_locations or []
    for place in places:
        file = Path(place, "version.py")
        match = re.search(r"^cuda[^=\n]*=\s*['\"]([\d.]+)", file.read_text(), re.MULTILINE)
        if match is not None:
            return match[1]
    return None


def _usable_cores() -> int:
    """Cores this process may use; fewer than the machine's inside a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> Finding:
    try:
        import psutil
    except ImportError:
        return Finding("memory", "unknown without psutil")
    memory = psutil.virtual_memory()
    return Finding(
        "memory",
        f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "" if memory.available > LOW_MEMORY_BYTES else "a study wants 4 GiB at least",
    )


def _machine(output: Path) -> list[Finding]:
    existing = output.absolute()
    while not existing.exists():
        existing = existing.parent
    disk = shutil.disk_usage(existing)
    return [
        Finding("CPU cores", str(_usable_cores())),
        _memory(),
        Finding(
            f"disk of {existing}",
            f"{disk.free / 2**30:.1f} GiB free",
            "" if disk.free > LOW_DISK_BYTES else "checkpoints of long studies want 10 GiB",
        ),
    ]
