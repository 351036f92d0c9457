"""PC-DARTS's supernet: the authors' module names and mathematics, nothing of ours (k = 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.reference import original_layout as darts


class MixedOp(darts.MixedOp):
    """DARTS's operations on the first C/k channels, a bypass for the others, channel shuffle."""

    def __init__(self, c: int, stride: int, k: int = 4) -> None:
        super().__init__(c // k, stride)
        self.k, self.stride, self.seen = k, stride, c // k

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        rest = x[:, self.seen :]
        if self.stride == 2:
            rest = nn.functional.max_pool2d(rest, 2, 2)
        y = torch.cat([super().forward(x[:, : self.seen], weights), rest], 1)
        channels = [y[:, c * self.seen + g] for g in range(self.seen) for c in range(self.k)]
        return torch.stack(channels, 1)


class SearchCell(darts.Cell):
    def __init__(self, nodes, c_pp, c_p, c, reduction, reduction_prev) -> None:
        super().__init__(c_pp, c_p, c, reduction_prev, affine=False)
        self.nodes, self.reduction = nodes, reduction
        for i in range(nodes):
            for j in range(2 + i):
                self._ops.append(MixedOp(c, 2 if reduction and j < 2 else 1))

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, betas: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        offset = 0
        for _ in range(self.nodes):
            edge_weights = betas[offset : offset + len(states)].softmax(0)
            s = sum(
                edge_weights[j] * self._ops[offset + j](h, weights[offset + j])
                for j, h in enumerate(states)
            )
            offset += len(states)
            states.append(s)
        return torch.cat(states[2:], 1)


class SearchNetwork(darts.SearchNetwork):
    cell = SearchCell

    def __init__(self, c: int, num_classes: int, layers: int, nodes: int = 4) -> None:
        super().__init__(c, num_classes, layers, nodes)
        edges = len(self.alphas[0])
        self.betas = [torch.randn(edges).requires_grad_() for _ in "nr"]

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            weights = self.alphas[cell.reduction].softmax(-1)
            s0, s1 = s1, cell(s0, s1, weights, self.betas[cell.reduction])
        return self.classifier(s1.mean((2, 3)))
