"""The number format in which forward passes run."""

from __future__ import annotations

from typing import Literal

import torch


def autocast(device: torch.device, precision: Literal["float32", "bfloat16"]) -> torch.autocast:
    """Return the context in which a forward pass runs; `float32` changes nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
