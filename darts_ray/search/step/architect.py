"""Gradients of the validation loss with respect to the alphas (section 2.3 of the paper)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig
from darts_ray.nn.mixing import Mixing
from darts_ray.nn.supernet import Batch, State, Supernet, weights_frozen
from darts_ray.search.parts import Role
from darts_ray.search.step.leaves import Leaves


class LossFunction(Protocol):
    """Maps a batch and the hidden state before it to its mean loss and the state after it."""

    def __call__(
        self, batch: Batch, state: State, mixing: Mixing | None, *, full_precision: bool = False
    ) -> tuple[Tensor, State]:
        """With `full_precision` autocast is off whatever the configuration says."""


Relax: TypeAlias = Callable[[Role], Leaves]
"""Draws the mixing weights of one pass, or of all passes of one virtual step."""


@dataclass(frozen=True)
class AlphaGradient:
    """What one alpha update needs.

    Attributes:
        gradients: one tensor per alpha matrix, in the order of `Supernet.alphas`.
        valid_loss: L_val at the point where it was differentiated, w or w'; 0-dim, detached.
        valid_state: the hidden state after the validation batch; None for conv.
    """

    gradients: list[Tensor]
    valid_loss: Tensor
    valid_state: State


class Architect:
    """First-order and unrolled alpha gradients for any `Supernet`.

    First order is `grad_alpha L_val(w, alpha)`. Unrolled differentiates through one virtual
    weight step of size xi:

        w' = w - xi * (momentum * buffer + c * g + weight_decay * w),   g = grad_w L_train(w)
        grad = grad_alpha L_val(w', alpha) - xi * c * H
        H = d/d_alpha [grad_w L_train(w, alpha) . v],                   v = grad_w' L_val(w')

    `c` is 1, or with a clipped virtual step `min(1, max_norm / (||g|| + 1e-6))`, which is
    treated as a constant: its own derivative is left out, as in the original code. H is exact
    (double backward), or the central finite difference of alpha gradients at `w ± e v` with
    `e = hvp_epsilon / ||v||`; there a clipped virtual step has v clipped as well, as in the
    original code. The two sides of the difference agree in most of their digits, so they are
    computed in full precision even where everything else is bfloat16.

    Losses are functions of mixing weights p, and a relaxation J maps alphas to p. Each loss may
    have its own map, for example its own random draw:

        grad = J_V^T dL_val/dp - xi * c * J_T^T (d/dp [grad_w L_train(w, p) . v])

    The weights move in place and come back by copy from a saved buffer, bit for bit; the
    network is never copied. The losses do not include regularisation such as TAR.

    Deliberate corrections of the original code:

    * weights are restored by copy, not by adding and subtracting the same vector (2);
    * a weight without momentum buffer has zero momentum; nothing else is caught (3);
    * every pass over the training batch uses the same dropout masks, and the clip coefficient
      in the implicit term is at most 1 (7).

    Args:
        supernet: the network, seen only through the protocol.
        optim: order, finite-difference size, momentum, weight decay and clipping.
        loss: the supernet's loss.
        relax: the mixing weights of a pass with the role `alpha` (L_val) or `weight` (L_train).
        momentum_buffer: returns a weight's momentum buffer, or None before the first step.
    """

    def __init__(
        self,
        supernet: Supernet,
        optim: SearchOptimConfig,
        loss: LossFunction,
        relax: Relax,
        momentum_buffer: Callable[[Tensor], Tensor | None],
    ) -> None:
        # the same Parameters for the supernet's whole life; finding them takes a walk
        self._weights: list[Tensor] = list(supernet.weights)
        self._optim = optim
        self._loss = loss
        self._relax = relax
        self._momentum_buffer = momentum_buffer
        clips = optim.clip_virtual_step
        self._clips = getattr(supernet, "clips_virtual_step", False) if clips is None else clips
        # Allocated once, at the first unrolled gradient: the weights as they were, and the
        # vector by which they are moved.
        self._saved: list[Tensor] = []
        self._direction: list[Tensor] = []

    def gradient(
        self,
        train_batch: Batch,
        valid_batch: Batch,
        *,
        train_state: State,
        valid_state: State,
        xi: float,
    ) -> AlphaGradient:
        """Return the alpha gradient of the configured order.

        Weights, alphas, optimiser state and `.grad` fields keep their bits. The random number
        generators advance by one training pass (unrolled only) and one validation pass.

        Args:
            train_batch: the batch of the virtual step; unused in first order.
            valid_batch: the batch that the alphas are judged on.
            train_state: hidden state before the training batch; None for conv.
            valid_state: hidden state before the validation batch.
            xi: size of the virtual step; 0 is first order.
        """
        if self._optim.order == "first" or xi == 0:
            valid = self._relax("alpha")
            with weights_frozen(self._weights):
                loss, valid_state = self._loss(valid_batch, valid_state, valid.mixing)
            gradients = valid.pull_back(_differentiate(loss, valid.tensors))
            return AlphaGradient(gradients, loss.detach(), valid_state)

        self._save()
        train = self._relax("weight")
        random_numbers = _RandomNumbers(self._weights[0].device)
        clip = self._set_virtual_step(train_batch, train_state, train)
        valid = self._relax("alpha")
        with self._weights_moved(-xi):
            loss, valid_state = self._loss(valid_batch, valid_state, valid.mixing)
            gradients = _differentiate(loss, [*valid.tensors, *self._weights])
        num_leaves = len(valid.tensors)
        gradients, v = valid.pull_back(gradients[:num_leaves]), gradients[num_leaves:]
        implicit = self._exact if self._optim.hvp == "exact" else self._finite_difference
        products = implicit(train_batch, train_state, train, v, random_numbers)
        factor = xi if clip is None else xi * clip
        gradients = [
            gradient - factor * product
            for gradient, product in zip(gradients, products, strict=True)
        ]
        return AlphaGradient(gradients, loss.detach(), valid_state)

    def _set_virtual_step(self, batch: Batch, state: State, train: Leaves) -> Tensor | None:
        """Set the direction to `momentum * buffer + c * g + weight_decay * w`; return c."""
        loss, _ = self._loss(batch, state, train.mixing)
        torch._foreach_copy_(self._direction, _differentiate(loss, self._weights))
        clip = self._clip_direction() if self._clips else None
        with torch.no_grad():
            torch._foreach_add_(self._direction, self._weights, alpha=self._optim.weight_decay)
        buffers = [self._momentum_buffer(weight) for weight in self._weights]
        moving = [
            (direction, buffer)
            for direction, buffer in zip(self._direction, buffers, strict=True)
            if buffer is not None
        ]
        if moving:
            directions, present = zip(*moving, strict=True)
            torch._foreach_add_(directions, present, alpha=self._optim.momentum)
        return clip

    def _finite_difference(
        self,
        batch: Batch,
        state: State,
        train: Leaves,
        v: list[Tensor],
        random_numbers: _RandomNumbers,
    ) -> list[Tensor]:
        """Return `(grad_alpha L_train(w + e v) - grad_alpha L_train(w - e v)) / (2 e)`."""
        torch._foreach_copy_(self._direction, v)
        if self._clips:
            self._clip_direction()
        norm = torch.nn.utils.get_total_norm(self._direction)
        # v = 0 has the product 0; the smallest number keeps 0 / 0 out without asking the device
        epsilon = self._optim.hvp_epsilon / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        torch._foreach_mul_(self._direction, epsilon)
        sides = []
        for sign in (1.0, -1.0):
            with random_numbers.replayed(), self._weights_moved(sign):
                with weights_frozen(self._weights):
                    loss, _ = self._loss(batch, state, train.mixing, full_precision=True)
                sides.append(train.pull_back(_differentiate(loss, train.tensors)))
        return [(plus - minus) / (2 * epsilon) for plus, minus in zip(*sides, strict=True)]

    def _exact(
        self,
        batch: Batch,
        state: State,
        train: Leaves,
        v: list[Tensor],
        random_numbers: _RandomNumbers,
    ) -> list[Tensor]:
        """Return `d/d_alpha [grad_w L_train(w) . v]` by differentiating twice."""
        with random_numbers.replayed():
            loss, _ = self._loss(batch, state, train.mixing)
            inner = _differentiate(loss, self._weights, create_graph=True)
            # A weight whose gradient is constant adds nothing, and autograd refuses it.
            pairs = [(g, v_g) for g, v_g in zip(inner, v, strict=True) if g.requires_grad]
            products = [torch.zeros_like(leaf) for leaf in train.tensors]
            if pairs and train.tensors:
                outputs, vectors = zip(*pairs, strict=True)
                products = _differentiate(outputs, train.tensors, vectors=vectors)
            return train.pull_back(products)

    def _save(self) -> None:
        if not self._saved:
            self._saved = [
                torch.empty_like(weight, requires_grad=False) for weight in self._weights
            ]
            self._direction = [torch.empty_like(saved) for saved in self._saved]
        with torch.no_grad():
            torch._foreach_copy_(self._saved, self._weights)

    @contextmanager
    def _weights_moved(self, scale: float) -> Iterator[None]:
        """Within the context the weights are `w + scale * direction`."""
        with torch.no_grad():
            torch._foreach_add_(self._weights, self._direction, alpha=scale)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, self._saved)

    def _clip_direction(self) -> Tensor:
        """Scale the direction to the norm `grad_clip` if it is longer; return the factor."""
        norm = torch.nn.utils.get_total_norm(self._direction)
        clip = (self._optim.grad_clip / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(self._direction, clip)
        return clip


class _RandomNumbers:
    """The generators' states at one moment, so that a later pass draws the same masks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = self._states()

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Within the context draw from that moment on; afterwards go on as if nothing was."""
        now = self._states()
        self._set(self._start)
        try:
            yield
        finally:
            self._set(now)

    def _states(self) -> tuple[Tensor, Tensor | None]:
        # A CUDA graph that is being recorded cannot read the state, and holds only steps that
        # draw nothing.
        has_state = self._device.type == "cuda" and not torch.cuda.is_current_stream_capturing()
        return torch.get_rng_state(), torch.cuda.get_rng_state(self._device) if has_state else None

    def _set(self, states: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(states[0])
        if states[1] is not None:
            torch.cuda.set_rng_state(states[1], self._device)


def random_numbers_kept(device: torch.device) -> AbstractContextManager[None]:
    """Within the context draw as usual; afterwards the generators are where they were."""
    return _RandomNumbers(device).replayed()


def _differentiate(
    outputs: Tensor | Sequence[Tensor],
    inputs: Sequence[Tensor],
    *,
    vectors: Any = None,
    create_graph: bool = False,
) -> list[Tensor]:
    """Return the gradients; zeros for an input that the outputs do not depend on."""
    if not inputs:
        return []
    if isinstance(outputs, Tensor) and not outputs.requires_grad:  # only `none` runs, say
        return [torch.zeros_like(value) for value in inputs]
    return list(
        torch.autograd.grad(
            outputs,
            inputs,
            grad_outputs=vectors,
            create_graph=create_graph,
            materialize_grads=True,
        )
    )
