"""What every run of a network shares, search or retrain: device, seeds, precision, finite losses.

Nothing here knows an optimiser or a kind of network; both training rooms build on it.
"""

from __future__ import annotations

import ctypes
import math
import os
import random
import resource
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from darts_ray.errors import CheckpointError, NonFiniteLossError, ResourceError


def resolve_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device that a configuration names.

    `auto` is the first visible GPU (Ray shows a trial only those it was given), else the CPU.

    Raises:
        ResourceError: `cuda` is asked for and PyTorch sees none.
    """
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if name == "cuda":
        raise ResourceError(
            "device: 'cuda' is asked for, but PyTorch sees no GPU in this process; give the trial"
            " a GPU (resources), install a CUDA build of PyTorch, or set device: auto or cpu."
        )
    return torch.device("cpu")


def seed_everything(seed: int) -> None:
    """Seed every generator of this process: Python, NumPy, PyTorch on CPU and GPUs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


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


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return the state of every generator as plain values (loads with `weights_only=True`)."""
    numpy_state: Any = np.random.get_state()
    _, keys, position, has_gauss, cached = numpy_state
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore what `rng_state` returned.

    A state taken on a GPU may continue on a CPU and the other way round; the numbers drawn
    then differ from an uninterrupted run's.

    Raises:
        CheckpointError: an entry is missing or unusable.
    """
    try:
        random.setstate(state["python"])
        keys, position, has_gauss, cached = state["numpy"]
        words = keys.cpu().numpy().astype(np.uint32)
        np.random.set_state(("MT19937", words, position, has_gauss, cached))
        torch.set_rng_state(state["torch"].cpu())
        if device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"The checkpoint's random number state cannot be restored: {error}."
        ) from error


def autocast(device: torch.device, precision: Literal["float32", "bfloat16"]) -> torch.autocast:
    """Return the context in which a forward pass runs; `float32` changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def image_layout(
    channels_last: bool, device: torch.device, precision: Literal["float32", "bfloat16"]
) -> torch.memory_format:
    """Return the memory layout in which a conv network and its images are kept.

    It follows the configuration, but for bfloat16 on a CPU, which is never channels-last: there
    PyTorch's oneDNN kernel returns garbage as the weight gradient of a dilated depthwise
    convolution (measured with torch 2.15, all of 2 to 64 channels; other layouts and precisions
    are right).
    """
    if channels_last and not (device.type == "cpu" and precision == "bfloat16"):
        return torch.channels_last
    return torch.contiguous_format


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Within the context, repeat bit for bit (`enabled`), or choose the fastest kernels.

    The process's flags are put back afterwards, so trials that share an actor cannot change
    each other.

    Raises:
        RuntimeError: from PyTorch, when an operation has no deterministic kernel.
    """
    if enabled:
        # cuBLAS reads this once, when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    before = (torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark)
    torch.use_deterministic_algorithms(enabled)
    cudnn.deterministic, cudnn.benchmark = enabled, not enabled
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


def cosine(start: float, end: float, epoch: int, epochs: int) -> float:
    """Return `end + (start - end) * (1 + cos(pi * epoch / epochs)) / 2`; epochs count from 0."""
    return end + (start - end) * (1 + math.cos(math.pi * epoch / epochs)) / 2


class LossTrace:
    """The losses of one epoch: their weighted mean, and which step was the first non-finite one.

    Losses stay on the device and are looked at every `interval` steps, so that the device
    does not wait for the host after each batch.

    Args:
        name: what the loss is, for the error message, such as `training loss`.
        epoch: 1-based epoch, for the error message.
        interval: steps between two looks.
    """

    def __init__(self, name: str, epoch: int, interval: int = 32) -> None:
        self._name = name
        self._epoch = epoch
        self._interval = interval
        self._pending: list[tuple[Tensor, float]] = []
        self._sum = 0.0
        self._weight = 0.0
        self._steps = 0

    def add(self, loss: Tensor, weight: float = 1.0) -> None:
        """Note one step's loss (0-dim).

        Args:
            loss: the loss; it is detached.
            weight: its share in the mean, such as the number of samples.

        Raises:
            NonFiniteLossError: one of the last `interval` losses is NaN or infinite.
        """
        self._pending.append((loss.detach(), weight))
        if len(self._pending) >= self._interval:
            self._collect()

    def mean(self) -> float:
        """Return the weighted mean of all losses so far; NaN before the first.

        Raises:
            NonFiniteLossError: as `add`.
        """
        self._collect()
        return self._sum / self._weight if self._weight else math.nan

    def _collect(self) -> None:
        if not self._pending:
            return
        values = torch.stack([loss for loss, _ in self._pending]).double().tolist()
        for value, (_, weight) in zip(values, self._pending, strict=True):
            self._steps += 1
            if not math.isfinite(value):
                raise NonFiniteLossError(
                    f"The {self._name} became {value} in epoch {self._epoch}, step"
                    f" {self._steps}; lower the learning rate, or continue from the last"
                    " checkpoint."
                )
            self._sum += value * weight
            self._weight += weight
        self._pending.clear()


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
