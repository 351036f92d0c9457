"""The number format in which forward passes run."""

from __future__ import annotations

from typing import Literal

import torch


def autocast(device: torch.device, precision: Literal["float32", "bfloat16"]) -> torch.autocast:
    """Return the context in which a forward pass runs; `float32` is full precision.

    Casts of weights are not kept: inside a caller's own autocast they would outlive this context
    and be stale once the weights have moved.
    """
    enabled = precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled, cache_enabled=False)
