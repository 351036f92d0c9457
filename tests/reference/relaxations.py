"""Relaxations written from their papers' formulas, operation by operation where that is clearer.

Draws are taken from PyTorch's global generator in the same order and shapes as the package's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Alphas = Mapping[str, Tensor]
Weights = dict[str, Tensor]


def softmax(alphas: Alphas) -> Weights:
    """p_o = exp(alpha_o) / sum exp(alpha)."""
    return {k: a.exp() / a.exp().sum(-1, keepdim=True) for k, a in alphas.items()}


def hard_gumbel(alphas: Alphas, tau: float) -> Weights:
    """GDAS: argmax of (log softmax + g) / tau, with the gradient of its softmax."""
    weights = {}
    for name, a in alphas.items():
        log_p = a - a.logsumexp(-1, keepdim=True)
        g = -torch.log(torch.empty_like(a).exponential_())
        s = F.softmax((log_p + g) / tau, -1)
        h = F.one_hot(s.argmax(-1), a.shape[-1]).to(a)
        weights[name] = h + (s - s.detach())
    return weights


def soft_gumbel(alphas: Alphas, tau: float) -> Weights:
    """SNAS: softmax of (log alpha + g) / tau."""
    weights = {}
    for name, a in alphas.items():
        g = -torch.log(torch.empty_like(a).exponential_())
        weights[name] = F.softmax((a.log() + g) / tau, -1)
    return weights


def perturbed(alphas: Alphas, eps: float) -> Weights:
    """SmoothDARTS, random: softmax plus uniform noise, clipped, rows summing to 1."""
    p = softmax(alphas)
    noise = {name: torch.empty_like(row).uniform_(-eps, eps) for name, row in p.items()}
    weights = {}
    for name, row in p.items():
        q = (row + noise[name]).clamp(0, 1)
        weights[name] = q / q.sum(-1, keepdim=True)
    return weights


def dirichlet(alphas: Alphas) -> Weights:
    """DrNAS: a sample of Dirichlet(ELU(alpha) + 1), drawn as normalised gammas."""
    weights = {}
    for name, a in alphas.items():
        c = torch.where(a > 0, a, a.exp() - 1) + 1
        weights[name] = torch.distributions.Dirichlet(c).rsample()
    return weights


def log_sum_exp_penalty(alphas: Alphas, weight: float) -> Weights:
    """beta-DARTS: the gradient of weight * mean over edges of logsumexp."""
    edges = sum(len(a) for a in alphas.values())
    return {name: weight * p / edges for name, p in softmax(alphas).items()}


def zero_one_penalty(alphas: Alphas, weight: float) -> Weights:
    """FairDARTS: the gradient of -weight * mean (sigmoid - 1/2)^2 over all entries."""
    size = sum(a.numel() for a in alphas.values())
    return {
        name: -weight * 2 * (a.sigmoid() - 0.5) * a.sigmoid() * (1 - a.sigmoid()) / size
        for name, a in alphas.items()
    }


def dirichlet_divergence(alphas: Alphas) -> Tensor:
    """DrNAS: sum over edges of KL(Dirichlet(c) || Dirichlet(1)), by the closed form.

    ln G(sum c) - sum ln G(c_o) - ln G(n) + sum (c_o - 1) (psi(c_o) - psi(sum c))
    """
    total = torch.zeros((), dtype=torch.float64)
    for a in alphas.values():
        c = F.elu(a) + 1
        s = c.sum(-1)
        log_ratio = torch.lgamma(s) - torch.lgamma(c).sum(-1) - math.lgamma(c.shape[-1])
        rest = ((c - 1) * (torch.digamma(c) - torch.digamma(s).unsqueeze(-1))).sum(-1)
        total = total + (log_ratio + rest).sum()
    return total
