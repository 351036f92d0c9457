"""The original authors' search algorithm, written out plainly step by step.

What their search scripts compute per step, in the order they compute it: deep-copied unrolled
network, flat loops over parameters, optimisers by formula. Dropout must be off: the original
draws other masks for every pass. The two corrections that change numbers are in: missing
momentum buffers are zero and the clip coefficient of the implicit term is at most 1.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig
from darts_ray.nn.supernet import Batch, State, Supernet


@dataclass
class OriginalSearch:
    """Conv search with `recurrent=False`, language model search with `recurrent=True`."""

    supernet: Supernet
    optim: SearchOptimConfig
    recurrent: bool
    lr: float
    train_state: State = None
    valid_state: State = None
    momentum_buffers: list[Tensor] = field(default_factory=list)
    adam: dict[str, list[Tensor]] = field(default_factory=dict)
    steps: int = 0

    def step(self, train_batch: Batch, valid_batch: Batch) -> dict[str, Any]:
        self.steps += 1
        gradients, valid_loss, self.valid_state = self._alpha_gradient(train_batch, valid_batch)
        for name, gradient in gradients.items():
            self._adam_step(name, gradient)
        return {
            "alpha_gradient": gradients,
            "valid_loss": valid_loss,
            **self._weight_step(train_batch),
        }

    def _alpha_gradient(self, train_batch, valid_batch):
        net = self.supernet
        names = list(net.alphas)
        if self.optim.order == "first":
            loss, state = net.stateful_loss(valid_batch, self.valid_state)
            grads = torch.autograd.grad(loss, list(net.alphas.values()))
            return dict(zip(names, grads, strict=True)), loss.item(), state

        eta = self.lr if self.optim.xi == "weight_lr" else self.optim.xi
        loss, _ = net.stateful_loss(train_batch, self.train_state)
        grads = [g.clone() for g in torch.autograd.grad(loss, net.weights)]
        coefficient = self._clip(grads) if self.recurrent else 1.0
        unrolled = copy.deepcopy(net)
        with torch.no_grad():
            for i, (w, g) in enumerate(zip(unrolled.weights, grads, strict=True)):
                moment = 0.0
                if not self.recurrent and self.momentum_buffers:
                    moment = self.optim.momentum * self.momentum_buffers[i]
                w.copy_(w - eta * (moment + g + self.optim.weight_decay * w))

        loss, state = unrolled.stateful_loss(valid_batch, self.valid_state)
        loss.backward()
        vector = [w.grad for w in unrolled.weights]
        if self.recurrent:
            self._clip(vector)
        r = 0.01 / torch.sqrt(sum((v**2).sum() for v in vector)).item()
        sides = []
        with torch.no_grad():
            for w, v in zip(net.weights, vector, strict=True):
                w.add_(v, alpha=r)
        sides.append(self._train_alpha_gradient(train_batch))
        with torch.no_grad():
            for w, v in zip(net.weights, vector, strict=True):
                w.sub_(v, alpha=2 * r)
        sides.append(self._train_alpha_gradient(train_batch))
        with torch.no_grad():
            for w, v in zip(net.weights, vector, strict=True):
                w.add_(v, alpha=r)
        result = {
            name: alpha.grad - eta * coefficient * (plus - minus) / (2 * r)
            for (name, alpha), plus, minus in zip(unrolled.alphas.items(), *sides, strict=True)
        }
        return result, loss.item(), state

    def _train_alpha_gradient(self, batch):
        loss, _ = self.supernet.stateful_loss(batch, self.train_state)
        return torch.autograd.grad(loss, list(self.supernet.alphas.values()))

    def _weight_step(self, batch):
        net = self.supernet
        loss, self.train_state = net.stateful_loss(batch, self.train_state, regularised=True)
        grads = [g.clone() for g in torch.autograd.grad(loss, net.weights)]
        norm = math.sqrt(sum((g**2).sum().item() for g in grads))
        self._clip(grads)
        momentum = 0.0 if self.recurrent else self.optim.momentum
        if not self.momentum_buffers:
            self.momentum_buffers = [torch.zeros_like(g) for g in grads]
        with torch.no_grad():
            for w, g, b in zip(net.weights, grads, self.momentum_buffers, strict=True):
                b.copy_(momentum * b + g + self.optim.weight_decay * w)
                w.sub_(b, alpha=self.lr)
        return {"train_loss": loss.item(), "grad_norm": norm}

    def _adam_step(self, name, gradient):
        """Adam (Kingma and Ba) with weight decay added to the gradient."""
        alpha = self.supernet.alphas[name]
        beta1, beta2 = self.optim.alpha_betas
        with torch.no_grad():
            g = gradient + self.optim.alpha_weight_decay * alpha
            m, v = self.adam.setdefault(name, [torch.zeros_like(g), torch.zeros_like(g)])
            m.copy_(beta1 * m + (1 - beta1) * g)
            v.copy_(beta2 * v + (1 - beta2) * g * g)
            m_hat = m / (1 - beta1**self.steps)
            v_hat = v / (1 - beta2**self.steps)
            alpha.sub_(self.optim.alpha_lr * m_hat / (v_hat.sqrt() + 1e-8))

    def _clip(self, grads):
        norm = math.sqrt(sum((g**2).sum().item() for g in grads))
        coefficient = min(1.0, self.optim.grad_clip / (norm + 1e-6))
        if coefficient < 1:
            for g in grads:
                g.mul_(coefficient)
        return coefficient
