"""A network whose gradients are averaged over the processes that train it."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from darts_ray.data import ImageInfo
from darts_ray.nn import ConvNetwork, ImageNetNetwork


def distribute(
    network: ConvNetwork | ImageNetNetwork, info: ImageInfo, device: torch.device
) -> DistributedDataParallel:
    """Wrap a conv network; every worker must do so at the same time.

    Statistics of batch normalisation are each worker's own until somebody evens them out.

    Args:
        network: on `device`.
        info: its images.
        device: of this worker.
    """
    # why: PyTorch 2.14 renames it, and warns of the old name
    names = inspect.signature(DistributedDataParallel).parameters
    sync = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {sync: False}
    return DistributedDataParallel(
        network,
        device_ids=None if device.type == "cpu" else [device],
        find_unused_parameters=_leaves_parameters_out(network, info),
        **options,
    )


def _leaves_parameters_out(network: ConvNetwork | ImageNetNetwork, info: ImageInfo) -> bool:
    """Whether a step gives some parameters no gradient, as those of a node that nobody reads."""
    trial = copy.deepcopy(network).train()
    trial.drop_path = 0.0  # draws nothing
    parameter = next(trial.parameters())
    images = torch.zeros(2, info.channels, *info.image_size).to(parameter)
    out = trial(images)
    sum(part.sum() for part in (out if isinstance(out, tuple) else (out,))).backward()
    return any(parameter.grad is None for parameter in trial.parameters())
