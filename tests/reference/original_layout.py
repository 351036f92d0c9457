"""The original authors' conv networks: their module names and mathematics, nothing of ours.

Written from nn.Modules alone, so that reading their checkpoints is tested independently of
`darts_ray.nn`. Alphas of the supernet are no parameters, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from darts_ray.space import ConvGenotype, Edge
from darts_ray.space.spaces import CONV_PRIMITIVES


class Ops(nn.Module):
    """A module whose layers are in an attribute named `op`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class FactorizedReduce(nn.Module):
    def __init__(self, c_in: int, c_out: int, affine: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


def relu_conv_bn(c_in: int, c_out: int, affine: bool) -> nn.Module:
    return Ops(
        nn.ReLU(), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out, affine=affine)
    )


def depthwise(c: int, kernel: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
    """ReLU, depthwise and pointwise convolution, BN."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        nn.BatchNorm2d(c, affine=affine),
    ]


def operation(name: str, c: int, stride: int, affine: bool) -> nn.Module:
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(c, c, affine)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    if name == "conv_7x1_1x7":
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c, c, (1, 7), (1, stride), (0, 3), bias=False),
            nn.Conv2d(c, c, (7, 1), (stride, 1), (3, 0), bias=False),
            nn.BatchNorm2d(c, affine=affine),
        )
    kernel = int(name[-1])
    if name.startswith("dil_conv"):
        return Ops(*depthwise(c, kernel, stride, 2, affine))
    return Ops(*depthwise(c, kernel, stride, 1, affine), *depthwise(c, kernel, 1, 1, affine))


class Cell(nn.Module):
    """Preprocessing of both cell types."""

    def __init__(self, c_pp: int, c_p: int, c: int, reduction_prev: bool, affine: bool) -> None:
        super().__init__()
        make = FactorizedReduce if reduction_prev else relu_conv_bn
        self.preprocess0 = make(c_pp, c, affine)
        self.preprocess1 = relu_conv_bn(c_p, c, affine)
        self._ops = nn.ModuleList()


class MixedOp(nn.Module):
    def __init__(self, c: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList()
        for name in CONV_PRIMITIVES:
            op = operation(name, c, stride, False)
            if "pool" in name:
                op = nn.Sequential(op, nn.BatchNorm2d(c, affine=False))
            self._ops.append(op)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))


class SearchCell(Cell):
    def __init__(self, nodes, c_pp, c_p, c, reduction, reduction_prev) -> None:
        super().__init__(c_pp, c_p, c, reduction_prev, affine=False)
        self.nodes, self.reduction = nodes, reduction
        for i in range(nodes):
            for j in range(2 + i):
                self._ops.append(MixedOp(c, 2 if reduction and j < 2 else 1))

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        offset = 0
        for _ in range(self.nodes):
            s = sum(self._ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states))
            offset += len(states)
            states.append(s)
        return torch.cat(states[2:], 1)


class SearchNetwork(nn.Module):
    cell = SearchCell

    def __init__(self, c: int, num_classes: int, layers: int, nodes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * c, 3, padding=1, bias=False))
        self.stem.append(nn.BatchNorm2d(3 * c))
        self.cells = nn.ModuleList()
        c_pp = c_p = 3 * c
        reduction_prev = False
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            c *= 2 if reduction else 1
            self.cells.append(self.cell(nodes, c_pp, c_p, c, reduction, reduction_prev))
            c_pp, c_p, reduction_prev = c_p, nodes * c, reduction
        self.classifier = nn.Linear(c_p, num_classes)
        edges = sum(2 + i for i in range(nodes))
        self.alphas = [torch.randn(edges, len(CONV_PRIMITIVES)).requires_grad_() for _ in "nr"]

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, self.alphas[cell.reduction].softmax(-1))
        return self.classifier(s1.mean((2, 3)))


class DerivedCell(Cell):
    def __init__(self, edges: tuple[Edge, ...], concat, c_pp, c_p, c, reduction, prev) -> None:
        super().__init__(c_pp, c_p, c, prev, affine=True)
        self.edges, self.concat = edges, concat
        for name, j in edges:
            self._ops.append(operation(name, c, 2 if reduction and j < 2 else 1, True))

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        outputs = zip(self._ops, self.edges, strict=True)
        for (op1, edge1), (op2, edge2) in zip(outputs, outputs, strict=True):
            states.append(op1(states[edge1.predecessor]) + op2(states[edge2.predecessor]))
        return torch.cat([states[i] for i in self.concat], 1)


class AuxiliaryHead(nn.Module):
    def __init__(self, c: int, num_classes: int, stride: int, second_bn: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride, 0, count_include_pad=False),
            nn.Conv2d(c, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *([nn.BatchNorm2d(768)] if second_bn else []),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class DerivedNetwork(nn.Module):
    """NetworkCIFAR, or NetworkImageNet with `imagenet=True`; both heads are always computed."""

    def __init__(
        self, genotype: ConvGenotype, c: int, num_classes: int, layers: int, imagenet: bool
    ) -> None:
        super().__init__()
        self.imagenet, self.auxiliary_layer = imagenet, 2 * layers // 3
        if imagenet:
            self.stem0 = nn.Sequential(
                nn.Conv2d(3, c // 2, 3, 2, 1, bias=False),
                nn.BatchNorm2d(c // 2),
                nn.ReLU(),
                nn.Conv2d(c // 2, c, 3, 2, 1, bias=False),
                nn.BatchNorm2d(c),
            )
            self.stem1 = nn.Sequential(
                nn.ReLU(), nn.Conv2d(c, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c)
            )
            c_pp = c_p = c
        else:
            c_pp = c_p = 3 * c
            self.stem = nn.Sequential(
                nn.Conv2d(3, c_p, 3, padding=1, bias=False), nn.BatchNorm2d(c_p)
            )
        self.cells = nn.ModuleList()
        prev = imagenet
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            c *= 2 if reduction else 1
            kind = "reduce" if reduction else "normal"
            concat = getattr(genotype, f"{kind}_concat")
            cell = DerivedCell(getattr(genotype, kind), concat, c_pp, c_p, c, reduction, prev)
            self.cells.append(cell)
            c_pp, c_p, prev = c_p, len(concat) * c, reduction
            if i == self.auxiliary_layer:
                stride = 2 if imagenet else 3
                self.auxiliary_head = AuxiliaryHead(c_p, num_classes, stride, not imagenet)
        self.classifier = nn.Linear(c_p, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s0 = (self.stem0 if self.imagenet else self.stem)(x)
        s1 = self.stem1(s0) if self.imagenet else s0
        for i, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if i == self.auxiliary_layer:
                auxiliary = self.auxiliary_head(s1)
        return self.classifier(s1.mean((2, 3))), auxiliary


def randomise(module: nn.Module) -> None:
    """Give every parameter and running statistic a value that a mistake would change."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.is_floating_point():
                scale = 1.0 if value.dim() < 2 else value[0].numel() ** -0.5
                value.normal_(std=scale)
