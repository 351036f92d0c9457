"""The weights that a training updates: network, optimiser and, once it has begun, their mean."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from darts_ray.config import RetrainOptimConfig
from darts_ray.train.averaging import WeightAverage


class Weights:
    """A network under SGD, with averaging from some epoch on.

    Args:
        network: on its device.
        optim: learning rate, momentum, weight decay and the gradient's largest norm.

    Attributes:
        optimizer: of the network's parameters.
        average: the running mean; None before averaging has begun.
    """

    def __init__(self, network: nn.Module, optim: RetrainOptimConfig) -> None:
        self._network = network
        self._grad_clip = optim.grad_clip
        self.optimizer = torch.optim.SGD(
            network.parameters(),
            lr=optim.lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )
        self.average: WeightAverage | None = None

    def step(self, rate: float) -> Tensor:
        """Update the weights by the gradients that are there, clipped.

        Args:
            rate: the learning rate.

        Returns:
            The gradients' norm before it was clipped (0-dim).
        """
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), self._grad_clip)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return norm

    def begin_averaging(self) -> None:
        """Average the weights from the next step on."""
        self.average = WeightAverage(self._network.parameters())

    def scored(self) -> AbstractContextManager[None]:
        """Return the context in which the network holds the weights that count."""
        return nullcontext() if self.average is None else self.average.applied()

    def state_dict(self) -> dict[str, Any]:
        """Return `network`, `optimizer` and `average`; tensors are the live ones."""
        return {
            "network": self._network.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a copy of what `state_dict` returned, with this run's hyperparameters."""
        self._network.load_state_dict(state["network"])
        groups = self.optimizer.state_dict()["param_groups"]
        # a copy, because PyTorch would go on updating the given tensors in place
        buffers = copy.deepcopy(state["optimizer"])
        self.optimizer.load_state_dict({"state": buffers, "param_groups": groups})
        self.average = None
        if state["average"] is not None:
            self.begin_averaging()
            assert self.average is not None
            self.average.load_state_dict(state["average"])
