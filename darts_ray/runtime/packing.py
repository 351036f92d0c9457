"""How many runs should share one GPU."""

from __future__ import annotations

import math

import torch

CONTEXT_BYTES = 600 * 2**20
"""What CUDA and its libraries take in every process, beside the tensors."""

RESERVED = 0.05
"""Share of a GPU's memory that is left free."""


def runs_per_gpu(
    peak_bytes: int, total_bytes: int, step_seconds: float, doubled_seconds: float
) -> int:
    """Return how many equal runs a GPU should be shared by.

    A step lasts a + b n with n images: what does not grow with them (a) is launching, during which
    the device idles. Doubling n adds b n, so the device is busy for the share
    u = (doubled - step) / step, and 1 / u runs side by side keep it busy. More only wait for each
    other, and all of them must fit into its memory.

    Args:
        peak_bytes: the most memory that the tensors of one run take.
        total_bytes: memory of the GPU.
        step_seconds: of one step.
        doubled_seconds: of a step with twice the batch.
    """
    fits = math.floor(total_bytes * (1 - RESERVED) / (peak_bytes + CONTEXT_BYTES))
    busy = min(1.0, max((doubled_seconds - step_seconds) / step_seconds, 0.05))
    return max(1, min(fits, math.floor(1 / busy)))


def packing_advice(
    peak_bytes: int, step_seconds: float, doubled_seconds: float, device: torch.device
) -> str:
    """Say what `resources.gpus_per_trial` a GPU's measurements speak for.

    Args:
        peak_bytes: as in `runs_per_gpu`.
        step_seconds: as there.
        doubled_seconds: as there.
        device: the GPU.
    """
    total = torch.cuda.get_device_properties(device).total_memory
    runs = runs_per_gpu(peak_bytes, total, step_seconds, doubled_seconds)
    if runs == 1:
        return "One search fills this GPU, or its memory: resources.gpus_per_trial=1."
    return (
        f"A step with twice the batch takes {doubled_seconds / step_seconds:.2f} times as long, so"
        f" one search leaves this GPU idle: resources.gpus_per_trial={1 / runs:.3g} has {runs}"
        " share it."
    )
