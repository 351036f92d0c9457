"""One step of the bilevel optimisation: alphas first, then weights (algorithm 1 of the paper)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig
from darts_ray.config.search import Precision
from darts_ray.nn.mixing import Mixing
from darts_ray.nn.supernet import Batch, State, Supernet
from darts_ray.runtime.precision import autocast
from darts_ray.search.methods import MethodLike, methods
from darts_ray.search.parts import Progress, Role, WeightStep
from darts_ray.search.step.architect import AlphaGradient, Architect, random_numbers_kept
from darts_ray.search.step.fitting import check_graphs, check_supernet
from darts_ray.search.step.leaves import Leaves, detached
from darts_ray.search.step.optimizers import Optimizers
from darts_ray.search.step.relaxing import relax
from darts_ray.search.step.step_graph import CudaRecorder, StepGraph
from darts_ray.space import SearchSpace


@dataclass(frozen=True)
class StepResult:
    """What a step measured; 0-dim tensors that stay on the device, so nothing waits for them.

    Attributes:
        train_loss: the loss that the weight step minimised, regularisation included.
        valid_loss: L_val at w (first order) or w' (unrolled); None in a step without alphas.
        grad_norm: norm of the weight gradient before clipping.
    """

    train_loss: Tensor
    valid_loss: Tensor | None
    grad_norm: Tensor


class BilevelStep:
    """Alternates one alpha update (Adam) and one weight update (SGD).

    Hidden states of recurrent supernets are carried from step to step, one for the training
    and one for the validation batches.

    Attributes:
        progress: where the search is, for a method's ramps; to be set for each epoch.
        optimizers: of the alphas and of the weights.
        alpha_step: whether `step` updates the alphas; a warm-up switches it off.

    Args:
        supernet: the network, already on its device; `methods.supernet` builds one with what a
            method needs.
        optim: both optimisers' hyperparameters.
        method: a method's name, its values as in `search.method`, or a `Method`.
        precision: `bfloat16` runs the forward passes under autocast.
        graphs: replay each step as one CUDA graph; for stateless supernets on a GPU.

    Raises:
        ConfigError: `graphs` without a GPU, or with a supernet that carries a state; the method
            is unknown, or needs another supernet.
    """

    def __init__(
        self,
        supernet: Supernet,
        optim: SearchOptimConfig,
        method: MethodLike = "darts",
        *,
        precision: Precision = "float32",
        graphs: bool = False,
    ) -> None:
        self.supernet = supernet
        self.method = methods.make(method)
        self.progress = Progress()
        self.alpha_step = True
        self.xi = optim.xi
        self._optim = optim
        # the same Parameters for the supernet's whole life; finding them takes a walk
        self._alphas = supernet.alphas
        self._weights: list[Tensor] = list(supernet.weights)
        self._precision: Precision = precision
        # a supernet of somebody's own need not have a state, or know of mixing weights
        self._is_stateful = hasattr(supernet, "stateful_loss")
        self._space: SearchSpace | None = getattr(supernet, "space", None)
        check_supernet(supernet, self.method)
        self._rule = self.method.weight_rule() if self.method.weight_rule else None
        self.optimizers = Optimizers(
            self._alphas.values(), self._weights, optim,
            alpha_weight_decay=self.method.alpha_weight_decay, capturable=graphs,
        )  # fmt: skip
        self._architect = Architect(
            supernet, optim, self._loss, self._relax, self.optimizers.momentum_buffer
        )
        self._states: dict[str, State] = {}
        self._train_batch: Batch | None = None
        self._graph = self._make_graph() if graphs else None

    @property
    def weight_lr(self) -> float:
        """Current learning rate of the weights; also xi, unless xi is a number."""
        rate: float = self.optimizers.weights.param_groups[0]["lr"]
        return rate

    @weight_lr.setter
    def weight_lr(self, value: float) -> None:
        self.optimizers.weights.param_groups[0]["lr"] = value

    @property
    def weight_decay(self) -> float:
        """Current weight decay of the weights."""
        decay: float = self.optimizers.weights.param_groups[0]["weight_decay"]
        return decay

    @weight_decay.setter
    def weight_decay(self, value: float) -> None:
        self.optimizers.weights.param_groups[0]["weight_decay"] = value

    @property
    def alpha_lr(self) -> float:
        """Current learning rate of the alphas."""
        rate: float = self.optimizers.alphas.param_groups[0]["lr"]
        return rate

    @alpha_lr.setter
    def alpha_lr(self, value: float) -> None:
        self.optimizers.alphas.param_groups[0]["lr"] = value

    def step(self, train_batch: Batch, valid_batch: Batch) -> StepResult:
        """Update the alphas, then the weights with the new alphas on the same training batch.

        Args:
            train_batch: `(images, targets)`, or `(tokens, targets)` of shape (time, batch).
            valid_batch: as `train_batch`, from the data that alphas are learnt on.
        """
        if self._graph is None:
            measured = self._update(train_batch, valid_batch)
        else:
            numbers = (
                self.weight_lr, self.weight_decay, self.alpha_lr, self._virtual_step_size(),
                self.alpha_step,
            )  # fmt: skip
            measured = self._graph(train_batch, valid_batch, numbers)
        train_loss, grad_norm, *valid_loss = measured
        return StepResult(train_loss, valid_loss[0] if valid_loss else None, grad_norm)

    def _update(self, train_batch: Batch, valid_batch: Batch) -> tuple[Tensor, ...]:
        # a caller's own autocast must not reach backward passes
        with autocast(self._weights[0].device, "float32"):
            valid_loss = self._update_alphas(train_batch, valid_batch) if self.alpha_step else ()
            return *self._update_weights(train_batch, valid_batch), *valid_loss

    def _update_alphas(self, train_batch: Batch, valid_batch: Batch) -> tuple[Tensor]:
        alphas = self._alpha_gradient(train_batch, valid_batch)
        self._states["valid"] = alphas.valid_state
        for alpha, gradient in zip(self._alphas.values(), alphas.gradients, strict=True):
            alpha.grad = gradient
        self.optimizers.alphas.step()
        self.optimizers.alphas.zero_grad()
        return (alphas.valid_loss,)

    def _update_weights(self, train_batch: Batch, valid_batch: Batch) -> tuple[Tensor, Tensor]:
        self.optimizers.weights.zero_grad()
        self._train_batch = train_batch
        train_state = self._state("train", train_batch)
        relaxed = self._mix("weight")
        mixing = None if relaxed is None else detached(relaxed)
        loss, next_state = self._loss(train_batch, train_state, mixing, regularised=True)
        loss.backward(inputs=self._weights)  # type: ignore[no-untyped-call]
        for weight in self._weights:
            if weight.grad is None:
                # Operations that did not run: SGD would skip them, but only where no other edge
                # shares their tensor. Momentum and weight decay move all weights, as in the
                # original codes, whose gradients are zeros after the first step.
                weight.grad = torch.zeros_like(weight)
        if self._rule is not None:
            assert mixing is not None
            seen = WeightStep(
                self.supernet, self._weights, mixing, self._probe, train_batch, valid_batch,
                self.progress,
            )  # fmt: skip
            self._rule.apply(seen)
        self._states["train"] = next_state
        norm = torch.nn.utils.clip_grad_norm_(self._weights, self._optim.grad_clip, foreach=True)
        self.optimizers.weights.step()
        if self._rule is not None:
            self._rule.after(seen)
        self.optimizers.weights.zero_grad()
        return loss.detach(), norm

    def alpha_gradient(self, train_batch: Batch, valid_batch: Batch) -> dict[str, Tensor]:
        """Return the gradient of each alpha matrix, without any side effect.

        Weights, alphas, optimiser states, carried hidden states, `.grad` fields and the random
        number generators of the CPU and the supernet's device keep their bits.
        """
        with random_numbers_kept(self._weights[0].device):
            result = self._alpha_gradient(train_batch, valid_batch)
        return dict(zip(self._alphas, result.gradients, strict=True))

    def reset_weight_optimizer(self) -> None:
        """Forget the momentum and any changed rate: a fresh SGD, as configured."""
        self.optimizers.reset_weights()

    def reset_state(self) -> None:
        """Forget the carried hidden states: the next batches start from zeros."""
        self._states.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return optimiser states and hidden states; supernet and hyperparameters are not in it.

        Hyperparameters come from the configuration, which may have changed when a checkpoint
        is loaded (population based training does that).
        """
        state = {**self.optimizers.state_dict(), "hidden": dict(self._states)}
        return state if self._rule is None else {**state, "rule": self._rule.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, keeping the current hyperparameters."""
        self.optimizers.load_state_dict(state)
        if self._graph is not None:
            self._graph.forget()
        if self._rule is not None:
            self._rule.load_state_dict(state["rule"])
        self._states = {
            name: None if hidden is None else hidden.to(self._weights[0].device)
            for name, hidden in state["hidden"].items()
        }

    def _alpha_gradient(self, train_batch: Batch, valid_batch: Batch) -> AlphaGradient:
        self._train_batch = train_batch
        result = self._architect.gradient(
            train_batch,
            valid_batch,
            train_state=self._state("train", train_batch),
            valid_state=self._state("valid", valid_batch),
            xi=self._virtual_step_size(),
        )
        if self.method.penalty is None:
            return result
        assert self._space is not None
        penalty = self.method.penalty(self._alphas, self._space, self.progress)
        terms = torch.autograd.grad(penalty, list(self._alphas.values()), materialize_grads=True)
        gradients = [g + term for g, term in zip(result.gradients, terms, strict=True)]
        return replace(result, gradients=gradients)

    def _relax(self, role: Role) -> Leaves:
        """Draw the mixing weights of a pass, as leaves of its gradient."""
        return Leaves(self._alphas, self._mix(role))

    def _mix(self, role: Role) -> Mixing | None:
        if self._space is None:
            return None
        probe = self._probe_train if role == "weight" else None
        return relax(self.method, self.supernet, role, self.progress, probe)

    def _probe_train(self, mixing: Mixing) -> Tensor:
        assert self._train_batch is not None
        return self._probe(self._train_batch, mixing)

    def _probe(self, batch: Batch, mixing: Mixing) -> Tensor:
        """Return a loss without a trace: states and random numbers stay as they are."""
        name = "train" if batch is self._train_batch else "valid"
        with random_numbers_kept(self._weights[0].device):
            return self._loss(batch, self._state(name, batch), mixing)[0]

    def _virtual_step_size(self) -> float:
        return self.weight_lr if self.xi == "weight_lr" else float(self.xi)

    def _make_graph(self) -> StepGraph:
        device = self._weights[0].device
        check_graphs(self.supernet, device)
        return StepGraph(self._update, CudaRecorder(device))

    def _loss(
        self,
        batch: Batch,
        state: State,
        mixing: Mixing | None,
        *,
        regularised: bool = False,
        full_precision: bool = False,
    ) -> tuple[Tensor, State]:
        precision = "float32" if full_precision else self._precision
        given: dict[str, Any] = {} if mixing is None else {"mixing": mixing}
        with autocast(self._weights[0].device, precision):
            if not self._is_stateful:
                return self.supernet.loss(batch, **given), None
            return self.supernet.stateful_loss(batch, state, regularised=regularised, **given)

    def _state(self, name: str, batch: Batch) -> State:
        if name in self._states:
            return self._states[name]
        if not self._is_stateful:
            return None
        # The last axis of the targets is the batch: (batch,) images, (time, batch) tokens.
        return self.supernet.initial_state(batch[1].shape[-1])
