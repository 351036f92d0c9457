"""Gradients of two supernets of one size, fused and plain, weight by weight."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from darts_ray.nn import ConvSupernet


@torch.no_grad()
def copy_weights(source: ConvSupernet, target: ConvSupernet) -> None:
    theirs = dict(target.plain_layout())
    ours = dict(source.plain_layout())
    assert set(ours) == set(theirs)
    for name, view in ours.items():
        theirs[name].copy_(view)
    for name, alpha in source.alphas.items():
        target.alphas[name].copy_(alpha)


def named_gradients(supernet: ConvSupernet) -> dict[str, Tensor]:
    """Return the gradient of every weight by its name in the plain supernet, and of the alphas."""
    twin = copy.deepcopy(supernet)  # whose weights become the gradients, to read them by name
    with torch.no_grad():
        for parameter, source in zip(twin.parameters(), supernet.parameters(), strict=True):
            parameter.copy_(torch.zeros_like(source) if source.grad is None else source.grad)
    gradients = {**dict(twin.plain_layout()), **{f"alpha_{k}": v for k, v in twin.alphas.items()}}
    return {name: gradient.detach() for name, gradient in gradients.items()}
