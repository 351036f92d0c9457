"""Averaged SGD: the mean of the weights over all steps since averaging began."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from darts_ray.errors import CheckpointError


class WeightAverage:
    """The running mean `(w_1 + ... + w_t) / t` of weights that plain SGD updates.

    Together with SGD this is ASGD with t0 = 0 and lambd = 0 (Polyak & Juditsky 1992).
    `torch.optim.ASGD` is not used, deliberately: it applies a new learning rate one step late,
    so the scaling by sequence length would hit the next sequence (as it does in the original
    code), it leaves the first iterate out of the mean, and it waits for the device at each
    parameter.

    Args:
        parameters: the weights; the mean starts at their current values and counts none.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._mean = [parameter.detach().clone() for parameter in self._parameters]
        self._count = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the current weights into the mean."""
        self._count += 1
        torch._foreach_lerp_(self._mean, self._parameters, 1 / self._count)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context the network computes with the mean."""
        current = [parameter.detach().clone() for parameter in self._parameters]
        self._write(self._mean)
        try:
            yield
        finally:
            self._write(current)

    def state_dict(self) -> dict[str, Any]:
        """Return the mean and its number of steps."""
        return {"mean": list(self._mean), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a copy of what `state_dict` returned.

        Raises:
            CheckpointError: the shapes are those of another network.
        """
        shapes = [tensor.shape for tensor in self._mean]
        if [tensor.shape for tensor in state["mean"]] != shapes:
            raise CheckpointError("The averaged weights belong to a network of another size.")
        for mine, loaded in zip(self._mean, state["mean"], strict=True):
            mine.copy_(loaded)
        self._count = int(state["count"])

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self._parameters, values)
