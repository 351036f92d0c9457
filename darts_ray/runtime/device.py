"""Which device a run uses, and how images lie in its memory."""

from __future__ import annotations

from typing import Literal

import torch

from darts_ray.errors import ResourceError


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
