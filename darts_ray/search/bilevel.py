"""One step of the bilevel optimisation: alphas first, then weights (algorithm 1 of the paper)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig
from darts_ray.config.search import Precision
from darts_ray.errors import ConfigError
from darts_ray.nn.supernet import Batch, State, Supernet
from darts_ray.runtime.precision import autocast
from darts_ray.search.architect import AlphaGradient, Architect, random_numbers_kept
from darts_ray.search.step_graph import CudaRecorder, StepGraph


@dataclass(frozen=True)
class StepResult:
    """What a step measured; 0-dim tensors that stay on the device, so nothing waits for them.

    Attributes:
        train_loss: the loss that the weight step minimised, regularisation included.
        valid_loss: L_val at w (first order) or w' (unrolled).
        grad_norm: norm of the weight gradient before clipping.
    """

    train_loss: Tensor
    valid_loss: Tensor
    grad_norm: Tensor


class BilevelStep:
    """Alternates one alpha update (Adam) and one weight update (SGD).

    Hidden states of recurrent supernets are carried from step to step, one for the training
    and one for the validation batches.

    Args:
        supernet: the network, already on its device.
        optim: both optimisers' hyperparameters.
        precision: `bfloat16` runs the forward passes under autocast.
        graphs: replay each step as one CUDA graph; for stateless supernets on a GPU.

    Raises:
        ConfigError: `graphs` without a GPU, or with a supernet that carries a state.
    """

    def __init__(
        self,
        supernet: Supernet,
        optim: SearchOptimConfig,
        *,
        precision: Precision = "float32",
        graphs: bool = False,
    ) -> None:
        self.supernet = supernet
        self.xi = optim.xi
        self._optim = optim
        # the same Parameters for the supernet's whole life; finding them takes a walk
        self._alphas = supernet.alphas
        self._weights: list[Tensor] = list(supernet.weights)
        self._precision: Precision = precision
        # a supernet of somebody's own need not have a state
        self._is_stateful = hasattr(supernet, "stateful_loss")
        # Adam with weight_decay adds it to the gradient (L2), as the original does.
        self._alpha_optimizer = torch.optim.Adam(
            self._alphas.values(),
            lr=optim.alpha_lr,
            betas=optim.alpha_betas,
            weight_decay=optim.alpha_weight_decay,
            foreach=True,
            capturable=graphs,
        )
        self._weight_optimizer = torch.optim.SGD(
            self._weights,
            lr=optim.weight_lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
            foreach=True,
        )
        self._architect = Architect(supernet, optim, self._loss, self._momentum_buffer)
        self._states: dict[str, State] = {}
        self._graph = self._make_graph() if graphs else None

    @property
    def weight_lr(self) -> float:
        """Current learning rate of the weights; also xi, unless xi is a number."""
        rate: float = self._weight_optimizer.param_groups[0]["lr"]
        return rate

    @weight_lr.setter
    def weight_lr(self, value: float) -> None:
        self._weight_optimizer.param_groups[0]["lr"] = value

    @property
    def alpha_lr(self) -> float:
        """Current learning rate of the alphas."""
        rate: float = self._alpha_optimizer.param_groups[0]["lr"]
        return rate

    @alpha_lr.setter
    def alpha_lr(self, value: float) -> None:
        self._alpha_optimizer.param_groups[0]["lr"] = value

    def step(self, train_batch: Batch, valid_batch: Batch) -> StepResult:
        """Update the alphas, then the weights with the new alphas on the same training batch.

        Args:
            train_batch: `(images, targets)`, or `(tokens, targets)` of shape (time, batch).
            valid_batch: as `train_batch`, from the data that alphas are learnt on.
        """
        if self._graph is None:
            return StepResult(*self._update(train_batch, valid_batch))
        numbers = (self.weight_lr, self.alpha_lr, self._virtual_step_size())
        return StepResult(*self._graph(train_batch, valid_batch, numbers))

    def _update(self, train_batch: Batch, valid_batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        # a caller's own autocast must not reach backward passes
        with autocast(self._weights[0].device, "float32"):
            return self._both_updates(train_batch, valid_batch)

    def _both_updates(
        self, train_batch: Batch, valid_batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        alphas = self._alpha_gradient(train_batch, valid_batch)
        self._states["valid"] = alphas.valid_state
        for alpha, gradient in zip(self._alphas.values(), alphas.gradients, strict=True):
            alpha.grad = gradient
        self._alpha_optimizer.step()
        self._alpha_optimizer.zero_grad()

        self._weight_optimizer.zero_grad()
        train_state = self._state("train", train_batch)
        loss, self._states["train"] = self._loss(train_batch, train_state, regularised=True)
        loss.backward(inputs=self._weights)  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._weights, self._optim.grad_clip, foreach=True)
        self._weight_optimizer.step()
        self._weight_optimizer.zero_grad()
        return loss.detach(), alphas.valid_loss, norm

    def alpha_gradient(self, train_batch: Batch, valid_batch: Batch) -> dict[str, Tensor]:
        """Return the gradient of each alpha matrix, without any side effect.

        Weights, alphas, optimiser states, carried hidden states, `.grad` fields and the random
        number generators of the CPU and the supernet's device keep their bits.
        """
        with random_numbers_kept(self._weights[0].device):
            result = self._alpha_gradient(train_batch, valid_batch)
        return dict(zip(self._alphas, result.gradients, strict=True))

    def reset_state(self) -> None:
        """Forget the carried hidden states: the next batches start from zeros."""
        self._states.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return optimiser states and hidden states; supernet and hyperparameters are not in it.

        Hyperparameters come from the configuration, which may have changed when a checkpoint
        is loaded (population based training does that).
        """
        return {
            "alpha_optimizer": self._alpha_optimizer.state_dict()["state"],
            "weight_optimizer": self._weight_optimizer.state_dict()["state"],
            "hidden": dict(self._states),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, keeping the current hyperparameters."""
        for name, optimizer in (
            ("alpha_optimizer", self._alpha_optimizer),
            ("weight_optimizer", self._weight_optimizer),
        ):
            groups = optimizer.state_dict()["param_groups"]
            # PyTorch would go on updating the tensors of the given state in place
            moments = copy.deepcopy(state[name])
            optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self._graph is not None:
            self._graph.forget()
        self._states = {
            name: None if hidden is None else hidden.to(self._weights[0].device)
            for name, hidden in state["hidden"].items()
        }

    def _alpha_gradient(self, train_batch: Batch, valid_batch: Batch) -> AlphaGradient:
        return self._architect.gradient(
            train_batch,
            valid_batch,
            train_state=self._state("train", train_batch),
            valid_state=self._state("valid", valid_batch),
            xi=self._virtual_step_size(),
        )

    def _virtual_step_size(self) -> float:
        return self.weight_lr if self.xi == "weight_lr" else float(self.xi)

    def _make_graph(self) -> StepGraph:
        device = self._weights[0].device
        if device.type != "cuda":
            raise ConfigError(
                f"graphs: CUDA graphs need a GPU, and the search runs on {device.type}; set"
                " graphs: false, or give the trial a GPU."
            )
        if self._is_stateful and self.supernet.initial_state(1) is not None:
            raise ConfigError(
                "graphs: a CUDA graph would repeat the state that this network carries; set"
                " graphs: false."
            )
        return StepGraph(self._update, CudaRecorder(device))

    def _loss(
        self,
        batch: Batch,
        state: State,
        *,
        regularised: bool = False,
        full_precision: bool = False,
    ) -> tuple[Tensor, State]:
        precision = "float32" if full_precision else self._precision
        with autocast(self._weights[0].device, precision):
            if not self._is_stateful:
                return self.supernet.loss(batch), None
            return self.supernet.stateful_loss(batch, state, regularised=regularised)

    def _state(self, name: str, batch: Batch) -> State:
        if name in self._states:
            return self._states[name]
        if not self._is_stateful:
            return None
        # The last axis of the targets is the batch: (batch,) images, (time, batch) tokens.
        return self.supernet.initial_state(batch[1].shape[-1])

    def _momentum_buffer(self, weight: Tensor) -> Tensor | None:
        buffer: Tensor | None = self._weight_optimizer.state.get(weight, {}).get("momentum_buffer")
        return buffer
