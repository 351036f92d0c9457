"""How much memory a run takes, and that freed memory stays at hand."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch


def keep_freed_memory() -> None:
    """Have freed memory stay with this process, where the C library is glibc.

    A step frees and allocates the same hundreds of megabytes over and over. What glibc hands back
    to the system in between returns as page faults: 8 percent of a search step on a CPU.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # from malloc.h
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)
    mallopt(mmap_threshold, 32 * 2**20)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement of `peak_memory_bytes` (GPU; a process's peak cannot be reset)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory in use so far: the GPU's tensors, or on a CPU the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
