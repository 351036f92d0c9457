"""The two optimisers of the bilevel problem: Adam on the alphas, SGD on the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig


class Optimizers:
    """Both optimisers with their rates.

    Attributes:
        alphas: Adam; its weight decay is added to the gradient (L2), as the original does.
        weights: SGD with momentum.

    Args:
        alphas: the architecture parameters.
        weights: the network's.
        optim: all hyperparameters.
        alpha_weight_decay: instead of the one in `optim`; None: that one.
        capturable: keep Adam's step counters on the device, for CUDA graphs.
    """

    def __init__(
        self,
        alphas: Iterable[Tensor],
        weights: Sequence[Tensor],
        optim: SearchOptimConfig,
        *,
        alpha_weight_decay: float | None,
        capturable: bool,
    ) -> None:
        self._weight_parameters = weights
        self._optim = optim
        decay = optim.alpha_weight_decay if alpha_weight_decay is None else alpha_weight_decay
        self.alphas = torch.optim.Adam(
            alphas,
            lr=optim.alpha_lr,
            betas=optim.alpha_betas,
            weight_decay=decay,
            foreach=True,
            capturable=capturable,
        )
        self.reset_weights()

    def reset_weights(self) -> None:
        """Forget the momentum and any changed rate: a fresh SGD, as configured."""
        self.weights = torch.optim.SGD(
            self._weight_parameters,
            lr=self._optim.weight_lr,
            momentum=self._optim.momentum,
            weight_decay=self._optim.weight_decay,
            foreach=True,
        )

    def momentum_buffer(self, weight: Tensor) -> Tensor | None:
        """Return SGD's buffer of one weight; None before its first step."""
        buffer: Tensor | None = self.weights.state.get(weight, {}).get("momentum_buffer")
        return buffer

    def state_dict(self) -> dict[str, Any]:
        """Return the moments, without the hyperparameters."""
        return {
            "alpha_optimizer": self.alphas.state_dict()["state"],
            "weight_optimizer": self.weights.state_dict()["state"],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, keeping the current hyperparameters."""
        for name, optimizer in (
            ("alpha_optimizer", self.alphas),
            ("weight_optimizer", self.weights),
        ):
            groups = optimizer.state_dict()["param_groups"]
            # PyTorch would go on updating the tensors of the given state in place
            moments = copy.deepcopy(state[name])
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
