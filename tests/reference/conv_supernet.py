"""The plain convolutional supernet: one module per edge and primitive, slow and obvious.

Module names are those of the original code, so `ConvSupernet.original_layout` pairs its weights
with ours by name.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.nn import ConvSupernet
from darts_ray.nn.conv.operations import (
    FactorizedReduce,
    ReLUConvNorm,
    forget_running_statistics,
    make_operation,
)


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0


class MixedOp(nn.Module):
    def __init__(self, primitives: tuple[str, ...], channels: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList(
            Zero(stride) if name == "none" else make_operation(name, channels, stride, False)
            for name in primitives
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))


class Cell(nn.Module):
    def __init__(
        self, primitives, nodes, multiplier, c_prev_prev, c_prev, channels, reduction, after
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.nodes, self.multiplier = nodes, multiplier
        if after:
            self.preprocess0 = FactorizedReduce(c_prev_prev, channels, affine=False)
        else:
            self.preprocess0 = ReLUConvNorm(c_prev_prev, channels, affine=False)
        self.preprocess1 = ReLUConvNorm(c_prev, channels, affine=False)
        self._ops = nn.ModuleList(
            MixedOp(primitives, channels, 2 if reduction and state < 2 else 1)
            for node in range(nodes)
            for state in range(2 + node)
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        edge = 0
        for _ in range(self.nodes):
            total = 0
            for state in states:
                total = total + self._ops[edge](state, weights[edge])
                edge += 1
            states.append(total)
        return torch.cat(states[-self.multiplier :], dim=1)


class ReferenceConvSupernet(nn.Module):
    """Built from, and with the weights of, a `ConvSupernet`."""

    def __init__(self, supernet: ConvSupernet) -> None:
        super().__init__()
        c_stem, in_channels = supernet.stem[0].weight.shape[:2]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c_stem, 3, padding=1, bias=False), nn.BatchNorm2d(c_stem)
        )
        space = supernet.space.cell("normal")
        primitives, layers, nodes = space.primitives, supernet.layers, space.nodes
        multiplier = len(space.output_states)
        reductions = (layers // 3, 2 * layers // 3)
        c_prev_prev = c_prev = c_stem
        channels, after = supernet.channels, False
        self.cells = nn.ModuleList()
        for layer in range(layers):
            reduction = layer in reductions
            channels *= 2 if reduction else 1
            self.cells.append(
                Cell(
                    primitives, nodes, multiplier, c_prev_prev, c_prev, channels, reduction, after
                )
            )
            c_prev_prev, c_prev, after = c_prev, multiplier * channels, reduction
        self.classifier = nn.Linear(c_prev, supernet.classifier.out_features)
        forget_running_statistics(self)
        self.alpha_normal = nn.Parameter(supernet.alpha_normal.detach().clone())
        self.alpha_reduce = nn.Parameter(supernet.alpha_reduce.detach().clone())
        self.to(self.alpha_normal)
        copy_weights(supernet, self)

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        return {"normal": self.alpha_normal, "reduce": self.alpha_reduce}

    @property
    def weights(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if not name.startswith("alpha_")]

    def forward(self, images: Tensor) -> Tensor:
        s0 = s1 = self.stem(images)
        for cell in self.cells:
            alphas = self.alpha_reduce if cell.reduction else self.alpha_normal
            s0, s1 = s1, cell(s0, s1, F.softmax(alphas, dim=-1))
        return self.classifier(s1.mean(dim=(2, 3)))

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)


@torch.no_grad()
def copy_weights(source: ConvSupernet, target: ReferenceConvSupernet) -> None:
    theirs = dict(target.named_parameters())
    ours = dict(source.original_layout())
    assert set(ours) == {name for name in theirs if not name.startswith("alpha_")}
    for name, view in ours.items():
        theirs[name].copy_(view)


def paired_gradients(
    supernet: ConvSupernet, reference: ReferenceConvSupernet
) -> list[tuple[str, Tensor, Tensor]]:
    """Return (name, gradient in the supernet, gradient in the reference) of every parameter."""
    twin = copy.deepcopy(supernet)  # whose weights become the gradients, to read them by name
    with torch.no_grad():
        for parameter, source in zip(twin.parameters(), supernet.parameters(), strict=True):
            parameter.copy_(_gradient(source))
    ours = {**dict(twin.original_layout()), **{f"alpha_{k}": v for k, v in twin.alphas.items()}}
    return [
        (name, ours[name].detach(), _gradient(parameter))
        for name, parameter in reference.named_parameters()
    ]


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
