"""Random number generators: seeding, saving, restoring, and bit-identical repeats."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from darts_ray.errors import CheckpointError


def seed_everything(seed: int) -> None:
    """Seed every generator of this process: Python, NumPy, PyTorch on CPU and GPUs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


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


class OwnRandomness:
    """Random numbers that belong to one run, whatever else the process draws.

    Attributes:
        state: of every generator, between two uses.

    Args:
        seed: of every generator.
        device: of the run.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        self._in_use = False
        outer = rng_state(device)
        try:
            seed_everything(seed)
            self.state = rng_state(device)
        finally:
            set_rng_state(outer, device)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within the context draw from this state; afterwards the process's is as it was.

        A use within a use is the same one. After an error the state is that of the beginning.
        """
        if self._in_use:
            yield
            return
        outer = rng_state(self._device)
        set_rng_state(self.state, self._device)
        self._in_use = True
        try:
            yield
            self.state = rng_state(self._device)
        finally:
            self._in_use = False
            set_rng_state(outer, self._device)
