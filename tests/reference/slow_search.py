"""First-order search methods written from their formulas, loop by loop, on the slow supernet.

A method here is what it changes of DARTS. Draws are taken from PyTorch's global generator in the
same order and shapes as the package's: the alphas' loss first, then the weights' loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import SearchOptimConfig
from tests.reference import relaxations
from tests.reference.slow_supernet import SlowSupernet, Weights

Batch = tuple[Tensor, Tensor]
Alphas = dict[str, Tensor]


@dataclass
class SlowSearch:
    """DARTS, first order: Adam for the alphas, then SGD for the weights, by formula."""

    net: SlowSupernet
    alphas: Alphas
    optim: SearchOptimConfig
    t: int
    epochs: int
    trains_alphas: bool = True
    steps: int = 0
    buffers: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, list[Tensor]] = field(default_factory=dict)

    # what a method replaces

    def mixing(self, role: str, train: Batch) -> Weights:
        return relaxations.softmax(self.cell_alphas())

    def edges(self) -> Weights | None:
        return None

    def penalty(self) -> Tensor:
        return torch.zeros((), dtype=torch.float64)

    def change(self, gradients: list[Tensor], p: Weights, train: Batch, valid: Batch) -> None:
        """Change the weights' gradients in place, before they are clipped."""

    def frozen(self) -> list[Tensor]:
        return []

    # what all share

    def cell_alphas(self) -> Alphas:
        return {name: self.alphas[name] for name in ("normal", "reduce")}

    def step(self, train: Batch, valid: Batch) -> dict[str, Any]:
        self.steps += 1
        if self.trains_alphas:
            loss = self.net.loss(valid, self.mixing("alpha", train), self.edges())
            terms = loss + self.penalty()
            found = torch.autograd.grad(terms, list(self.alphas.values()), materialize_grads=True)
            for name, gradient in zip(list(self.alphas), found, strict=True):
                self._adam(name, gradient)
        p = {name: rows.detach() for name, rows in self.mixing("weight", train).items()}
        edges = self.edges()
        edges = None if edges is None else {name: row.detach() for name, row in edges.items()}
        names, weights = zip(*self.net.named_parameters(), strict=True)
        loss = self.net.loss(train, p, edges)
        gradients = [g.clone() for g in self.gradients(loss)]
        self.change(gradients, p, train, valid)
        norm = math.sqrt(sum((g**2).sum().item() for g in gradients))
        clip = min(1.0, self.optim.grad_clip / (norm + 1e-6))
        still = [(w, w.detach().clone()) for w in self.frozen()]
        with torch.no_grad():
            for name, w, g in zip(names, weights, gradients, strict=True):
                b = self.buffers.get(name, torch.zeros_like(w))
                self.buffers[name] = (
                    self.optim.momentum * b + clip * g + self.optim.weight_decay * w
                )
                w -= self.optim.weight_lr * self.buffers[name]
            for w, value in still:
                w.copy_(value)
        return {"train_loss": loss.item(), "grad_norm": norm}

    def gradients(self, loss: Tensor, **options: bool) -> tuple[Tensor, ...]:
        weights = list(self.net.parameters())
        return torch.autograd.grad(loss, weights, materialize_grads=True, **options)

    def _adam(self, name: str, gradient: Tensor) -> None:
        alpha = self.alphas[name]
        beta1, beta2 = self.optim.alpha_betas
        with torch.no_grad():
            g = gradient + self.optim.alpha_weight_decay * alpha
            m, v = self.moments.setdefault(name, [torch.zeros_like(g), torch.zeros_like(g)])
            m.copy_(beta1 * m + (1 - beta1) * g)
            v.copy_(beta2 * v + (1 - beta2) * g * g)
            m_hat, v_hat = m / (1 - beta1**self.steps), v / (1 - beta2**self.steps)
            alpha.sub_(self.optim.alpha_lr * m_hat / (v_hat.sqrt() + 1e-8))


class DartsMinus(SlowSearch):
    """y_e = sum_o p_o o(x) + beta_t aux(x), beta_t = (E - t) / E; `net` has the skips."""

    def step(self, train: Batch, valid: Batch) -> dict[str, Any]:
        self.net.beta = (self.epochs - self.t) / self.epochs
        return super().step(train, valid)


class PCDarts(SlowSearch):
    """Edge weights are a softmax of the betas over a node's edges; `net` has the bypass."""

    def edges(self) -> Weights | None:
        edges = {}
        for name in ("normal", "reduce"):
            parts, first, inputs = [], 0, 2
            betas = self.alphas[f"beta_{name}"]
            while first < len(betas):
                part = betas[first : first + inputs].exp()
                parts.append(part / part.sum())
                first, inputs = first + inputs, inputs + 1
            edges[name] = torch.cat(parts)
        return edges


class SDartsRandom(SlowSearch):
    def mixing(self, role: str, train: Batch) -> Weights:
        alphas = self.cell_alphas()
        eps = 0.03 + (0.3 - 0.03) * self.t / self.epochs
        return (
            relaxations.perturbed(alphas, eps) if role == "weight" else super().mixing(role, train)
        )


class SDartsAdversarial(SlowSearch):
    """Seven sign steps uphill on the training loss from a random start, if it rises at all."""

    def mixing(self, role: str, train: Batch) -> Weights:
        p = relaxations.softmax(self.cell_alphas())
        if role != "weight":
            return p
        p = {name: row.detach() for name, row in p.items()}
        eps = 0.03 + (0.3 - 0.03) * self.t / self.epochs
        delta = {name: torch.empty_like(row).uniform_(-eps, eps) for name, row in p.items()}
        for _ in range(7):
            moved = {name: (row + delta[name]).requires_grad_() for name, row in p.items()}
            loss = self.net.loss(train, moved)
            found = torch.autograd.grad(loss, list(moved.values()))
            for name, g in zip(p, found, strict=True):
                delta[name] = (delta[name] + 2 * eps / 7 * torch.sign(g)).clamp(-eps, eps)
        moved = {name: row + delta[name] for name, row in p.items()}
        if self.net.loss(train, moved) <= self.net.loss(train, p):
            moved = p
        clipped = {name: row.clamp(0, 1) for name, row in moved.items()}
        return {name: row / row.sum(-1, keepdim=True) for name, row in clipped.items()}


class Gdas(SlowSearch):
    """An operation that is not drawn does not run, so its weight has no gradient."""

    exact = False

    def mixing(self, role: str, train: Batch) -> Weights:
        tau = 10 + (0.1 - 10) * self.t / (self.epochs - 1)
        p = relaxations.hard_gumbel(self.cell_alphas(), tau)
        if self.exact:
            return p
        return {name: torch.where(row.detach() > 0.5, row, 0.0) for name, row in p.items()}


class GdasExact(Gdas):
    exact = True


class Snas(SlowSearch):
    """Alphas and weights see the same batch, which is given as both."""

    def mixing(self, role: str, train: Batch) -> Weights:
        tau = 1 + (0.03 - 1) * self.t / (self.epochs - 1)
        return relaxations.soft_gumbel(self.cell_alphas(), tau)


class DrNas(SlowSearch):
    def mixing(self, role: str, train: Batch) -> Weights:
        return relaxations.dirichlet(self.cell_alphas())


class BetaDarts(SlowSearch):
    """lambda_t * mean over the edges of both cells of log sum exp(alpha)."""

    def penalty(self) -> Tensor:
        rows = torch.cat(list(self.cell_alphas().values()))
        return 50 * self.t / self.epochs * rows.exp().sum(-1).log().mean()


class FairDarts(SlowSearch):
    def mixing(self, role: str, train: Batch) -> Weights:
        return {name: 1 / (1 + (-a).exp()) for name, a in self.cell_alphas().items()}

    def penalty(self) -> Tensor:
        p = torch.cat([row.flatten() for row in self.mixing("alpha", ()).values()])  # type: ignore[arg-type]
        return -10 * ((p - 0.5) ** 2).mean()


class LambdaDarts(SlowSearch):
    """The gradient of -lambda_t * mean over pairs of cos(g_l, g_m), through g itself.

    By double backward, where the package takes a finite difference.
    """

    def change(self, gradients: list[Tensor], p: Weights, train: Batch, valid: Batch) -> None:
        layers = self.net.kinds.count("normal")
        own = torch.stack([p["normal"]] * layers).requires_grad_()
        loss = self.net.loss(train, {**p, "normal": own})
        (g,) = torch.autograd.grad(loss, own, create_graph=True)
        cosines = [
            (g[i] * g[j]).sum() / (g[i].norm() * g[j].norm())
            for i in range(layers)
            for j in range(i)
        ]
        lambda_t = 0.125 * self.t / self.epochs
        terms = self.gradients(-lambda_t * torch.stack(cosines).mean())
        for gradient, term in zip(gradients, terms, strict=True):
            gradient += term


@dataclass
class Oles(SlowSearch):
    """Freezes an operation when the mean of `interval` cosines is below the threshold."""

    threshold: float = 0.4
    interval: int = 20
    cosines: dict[str, list[float]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)

    def change(self, gradients: list[Tensor], p: Weights, train: Batch, valid: Batch) -> None:
        places = {id(w): place for place, w in enumerate(self.net.parameters())}
        theirs = self.gradients(self.net.loss(valid, p))
        for name, weights in self.net.operations().items():
            a, b = (
                torch.cat([side[places[id(w)]].flatten() for w in weights])
                for side in (gradients, theirs)
            )
            cosine = (a @ b / (a.norm() * b.norm())).item()
            history = self.cosines.setdefault(name, [])
            history.append(cosine)
            if len(history) == self.interval:
                if sum(history) / self.interval < self.threshold:
                    self.stopped.add(name)
                history.clear()

    def frozen(self) -> list[Tensor]:
        return [w for name in self.stopped for w in self.net.operations()[name]]


@dataclass
class RandomWS(SlowSearch):
    """One cell per step, drawn uniformly: pairs of inputs, and primitives other than `none`."""

    columns: tuple[int, ...] = ()

    def mixing(self, role: str, train: Batch) -> Weights:
        return random_cell({k: a.shape for k, a in self.cell_alphas().items()}, self.columns)


def random_cell(shapes: dict[str, Any], columns: tuple[int, ...]) -> dict[str, Tensor]:
    """One-hot weights of a drawn cell with two edges per node."""

    def draw(below: int) -> int:
        return int(torch.randint(below, (1,)))

    weights = {}
    for name, shape in shapes.items():
        p = torch.zeros(*shape, dtype=torch.float64)
        first, inputs = 0, 2
        while first < len(p):
            rows = list(range(first, first + inputs))
            pair = sorted(rows.pop(draw(len(rows))) for _ in range(2))
            for row in pair:
                p[row, columns[draw(len(columns))]] = 1
            first, inputs = first + inputs, inputs + 1
        weights[name] = p
    return weights


SlowMethod = Callable[..., SlowSearch]
