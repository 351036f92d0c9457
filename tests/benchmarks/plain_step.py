"""The bilevel step as the original code does it, around the plain per-edge supernets.

The alpha step is `loss.backward()`, which computes weight gradients too; the unrolled network is
a deep copy; the weights are moved back and forth for the finite difference.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from darts_ray.config import SearchOptimConfig


class PlainStep:
    def __init__(self, network: Any, optim: SearchOptimConfig, clips: bool) -> None:
        self.network = network
        self.optim = optim
        self.clips = clips
        self.alpha_optimizer = torch.optim.Adam(
            list(network.alphas.values()),
            lr=optim.alpha_lr,
            betas=optim.alpha_betas,
            weight_decay=optim.alpha_weight_decay,
        )
        self.weight_optimizer = torch.optim.SGD(
            network.weights,
            lr=optim.weight_lr,
            momentum=optim.momentum,
            weight_decay=optim.weight_decay,
        )

    def step(self, train_batch: tuple[Tensor, Tensor], valid_batch: tuple[Tensor, Tensor]) -> None:
        self.alpha_optimizer.zero_grad()
        if self.optim.order == "first":
            self.network.loss(valid_batch).backward()
        else:
            self._unrolled_backward(train_batch, valid_batch)
        self.alpha_optimizer.step()
        self.weight_optimizer.zero_grad()
        self.network.loss(train_batch).backward()
        nn.utils.clip_grad_norm_(self.network.weights, self.optim.grad_clip)
        self.weight_optimizer.step()

    def _unrolled_backward(self, train_batch, valid_batch) -> None:
        xi = self.weight_optimizer.param_groups[0]["lr"]
        unrolled = self._unrolled_network(train_batch, xi)
        unrolled.loss(valid_batch).backward()
        vectors = [weight.grad for weight in unrolled.weights]
        if self.clips:
            nn.utils.clip_grads_with_norm_(
                unrolled.weights, self.optim.grad_clip, nn.utils.get_total_norm(vectors)
            )
        implicit = self._hessian_vector_product(vectors, train_batch)
        for name, alpha in self.network.alphas.items():
            alpha.grad = unrolled.alphas[name].grad - xi * implicit[name]

    def _unrolled_network(self, batch: tuple[Tensor, Tensor], xi: float) -> Any:
        weights = self.network.weights
        gradients = torch.autograd.grad(self.network.loss(batch), weights)
        if self.clips:
            norm = nn.utils.get_total_norm(gradients)
            factor = (self.optim.grad_clip / norm).clamp(max=1)
            gradients = [gradient * factor for gradient in gradients]
        unrolled = copy.deepcopy(self.network)
        with torch.no_grad():
            for weight, gradient, target in zip(weights, gradients, unrolled.weights, strict=True):
                buffer = self.weight_optimizer.state[weight].get("momentum_buffer", 0)
                moment = 0 if buffer is None else buffer * self.optim.momentum
                target.copy_(weight - xi * (moment + gradient + self.optim.weight_decay * weight))
        return unrolled

    def _hessian_vector_product(self, vectors: list[Tensor], batch) -> dict[str, Tensor]:
        weights, alphas = self.network.weights, list(self.network.alphas.values())
        epsilon = self.optim.hvp_epsilon / torch.cat([v.flatten() for v in vectors]).norm()
        sides = []
        for move in (1, -2):
            with torch.no_grad():
                for weight, vector in zip(weights, vectors, strict=True):
                    weight.add_(vector * epsilon * move)
            sides.append(torch.autograd.grad(self.network.loss(batch), alphas))
        with torch.no_grad():
            for weight, vector in zip(weights, vectors, strict=True):
                weight.add_(vector * epsilon)
        return {
            name: (plus - minus) / (2 * epsilon)
            for name, plus, minus in zip(self.network.alphas, *sides, strict=True)
        }
