"""NAS-Bench-201's networks: the benchmark code's module names and mathematics, nothing of ours.

Written from nn.Modules alone. Convolutions have a bias where the normalisation has no scale.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


class ReLUConvBN(nn.Module):
    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=not affine),
            nn.BatchNorm2d(c_out, affine=affine, track_running_stats=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0)


class Pool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.op = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def operation(name: str, c: int, affine: bool) -> nn.Module:
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return Pool()
    return ReLUConvBN(c, c, int(name[-1]), 1, affine)


class BasicBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(c_in, c_out, 3, 2, True)
        self.conv_b = ReLUConvBN(c_out, c_out, 3, 1, True)
        self.downsample = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_b(self.conv_a(x)) + self.downsample(x)


class SearchCell(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for i in range(1, 4):
            for j in range(i):
                ops = [operation(name, c, False) for name in OPERATIONS]
                self.edges[f"{i}<-{j}"] = nn.ModuleList(ops)
        self.order = {key: row for row, key in enumerate(sorted(self.edges))}

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        nodes = [x]
        for i in range(1, 4):
            total = torch.zeros_like(x)
            for j in range(i):
                key = f"{i}<-{j}"
                row = weights[self.order[key]]
                for w, op in zip(row, self.edges[key], strict=True):
                    total = total + w * op(nodes[j])
            nodes.append(total)
        return nodes[3]


class DerivedCell(nn.Module):
    """`structure`: per node, pairs of operation and source, sources ascending."""

    def __init__(self, structure: list[list[tuple[str, int]]], c: int) -> None:
        super().__init__()
        self.structure = structure
        edges = [edge for node in structure for edge in node]
        self.layers = nn.ModuleList(operation(name, c, True) for name, _ in edges)

    def forward(self, x: Tensor) -> Tensor:
        nodes, layers = [x], iter(self.layers)
        for node in self.structure:
            nodes.append(torch.stack([next(layers)(nodes[j]) for _, j in node]).sum(0))
        return nodes[-1]


class Network(nn.Module):
    """Stem, N cells, block, N cells, block, N cells; a supernet if there is no structure."""

    def __init__(self, c: int, n: int, num_classes: int, structure=None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))
        self.cells = nn.ModuleList()
        for stage in range(3):
            if stage:
                self.cells.append(BasicBlock(c, 2 * c))
                c *= 2
            for _ in range(n):
                cell = SearchCell(c) if structure is None else DerivedCell(structure, c)
                self.cells.append(cell)
        self.lastact = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU())
        self.classifier = nn.Linear(c, num_classes)
        if structure is None:
            self.arch_parameters = nn.Parameter(torch.randn(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for cell in self.cells:
            if isinstance(cell, SearchCell):
                x = cell(x, self.arch_parameters.softmax(-1))
            else:
                x = cell(x)
        return self.classifier(self.lastact(x).mean((2, 3)))
