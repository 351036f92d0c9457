"""The supernet of DARTS with mixing weights as an argument: one module and one product each.

Operations and names are the original code's (`original_layout`); partial channels are PC-DARTS's,
the auxiliary skip is that of DARTS-. Nothing of `darts_ray.nn` computes here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference import original_layout as original

Weights = Mapping[str, Tensor]
"""By kind of cell (edges, primitives), or (cells of that kind, edges, primitives)."""


class MixedOp(nn.Module):
    """`sum_o p_o o(x)`, on C/k channels; with the auxiliary skip `+ beta aux(x)`."""

    def __init__(self, names: Sequence[str], c: int, stride: int, k: int, auxiliary: bool) -> None:
        super().__init__()
        self.k, self.seen, self.stride = k, c // k, stride
        self._ops = nn.ModuleList()
        for name in names:
            op = original.operation(name, self.seen, stride, False)
            if "pool" in name:
                op = nn.Sequential(op, nn.BatchNorm2d(self.seen, affine=False))
            self._ops.append(op)
        self.aux: nn.Module | None = None
        if auxiliary:
            self.aux = nn.Identity() if stride == 1 else original.FactorizedReduce(c, c, False)

    def forward(self, x: Tensor, p: Tensor, beta: float) -> Tensor:
        operated = x[:, : self.seen]
        y: Tensor = sum(w * op(operated) for w, op in zip(p, self._ops, strict=True))
        if self.k > 1:
            rest = x[:, self.seen :]
            if self.stride == 2:
                rest = F.max_pool2d(rest, 2, 2)
            y = torch.cat([y, rest], 1)
            order = [g * self.seen + c for c in range(self.seen) for g in range(self.k)]
            y = y[:, order]
        return y if self.aux is None else y + beta * self.aux(x)


class Cell(original.Cell):
    def __init__(self, names, nodes, c_pp, c_p, c, reduction, reduction_prev, k, auxiliary):
        super().__init__(c_pp, c_p, c, reduction_prev, affine=False)
        self.nodes = nodes
        for i in range(nodes):
            for j in range(2 + i):
                stride = 2 if reduction and j < 2 else 1
                self._ops.append(MixedOp(names, c, stride, k, auxiliary))

    def forward(self, s0: Tensor, s1: Tensor, p: Tensor, edges: Tensor, beta: float) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        row = 0
        for _ in range(self.nodes):
            total: Any = 0
            for state in list(states):
                total = total + edges[row] * self._ops[row](state, p[row], beta)
                row += 1
            states.append(total)
        return torch.cat(states[2:], 1)


class SlowSupernet(nn.Module):
    """Complete cells; normalisations use the statistics of the batch, whatever the mode."""

    def __init__(
        self, names: Sequence[str], *, c: int, classes: int, layers: int, nodes: int,
        stem_multiplier: int, in_channels: int = 1, k: int = 1, auxiliary: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        c_p = c_pp = stem_multiplier * c
        self.beta = 1.0
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, c_p, 3, padding=1, bias=False), nn.BatchNorm2d(c_p)
        )
        self.cells, self.kinds = nn.ModuleList(), []
        reduction_prev = False
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            c *= 2 if reduction else 1
            self.cells.append(
                Cell(names, nodes, c_pp, c_p, c, reduction, reduction_prev, k, auxiliary)
            )
            self.kinds.append("reduce" if reduction else "normal")
            c_pp, c_p, reduction_prev = c_p, nodes * c, reduction
        self.classifier = nn.Linear(c_p, classes)

    def forward(self, x: Tensor, p: Weights, edges: Weights | None = None) -> Tensor:
        self.train()
        s0 = s1 = self.stem(x)
        counts = dict.fromkeys(self.kinds, 0)
        for kind, cell in zip(self.kinds, self.cells, strict=True):
            rows = p[kind] if p[kind].dim() == 2 else p[kind][counts[kind]]
            counts[kind] += 1
            factors = torch.ones(len(rows)).to(rows) if edges is None else edges[kind]
            s0, s1 = s1, cell(s0, s1, rows, factors, self.beta)
        logits: Tensor = self.classifier(s1.mean((2, 3)))
        return logits

    def loss(
        self, batch: tuple[Tensor, Tensor], p: Weights, edges: Weights | None = None
    ) -> Tensor:
        return F.cross_entropy(self(batch[0], p, edges), batch[1])

    def operations(self) -> dict[str, list[Tensor]]:
        """The weights of each operation that has some, by cell, edge and column."""
        found: dict[str, list[Tensor]] = {}
        for name, parameter in self.named_parameters():
            if match := re.match(r"cells\.\d+\._ops\.\d+\._ops\.\d+\.", name):
                found.setdefault(match[0], []).append(parameter)
        return found


def weights_of(ours: Any) -> dict[str, Tensor]:
    """Views of the weights of a `ConvSupernet`, by their names in a `SlowSupernet`."""
    views: dict[str, Tensor] = {}
    for name, view in ours.plain_layout():
        skip = re.match(r"cells\.(\d+)\.connections\.(\d+)\.(conv_[12])", name)
        if skip is None:
            views[re.sub(r"edges\.(\d+)\.ops\.", r"_ops.\1._ops.", name)] = view
            continue
        rows = ours.cells[int(skip[1])].cell.leaving(int(skip[2]))
        for row, part in zip(rows, view.chunk(len(rows)), strict=True):
            views[f"cells.{skip[1]}._ops.{row}.aux.{skip[3]}.weight"] = part
    return views


@torch.no_grad()
def copy_weights(ours: Any, slow: SlowSupernet) -> SlowSupernet:
    """Give a slow supernet the weights of a `ConvSupernet`."""
    views = weights_of(ours)
    theirs = dict(slow.named_parameters())
    # normalisations of the stem have a scale and a shift in both
    assert set(views) == set(theirs), set(views) ^ set(theirs)
    for name, parameter in theirs.items():
        parameter.copy_(views[name])
    return slow
