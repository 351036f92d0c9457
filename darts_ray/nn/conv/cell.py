"""The cell of a derived convolutional network, and drop path."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.conv.operations import FactorizedReduce, ReLUConvNorm, make_operation
from darts_ray.space import Genotype


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Zero whole samples with the given probability and scale the others up.

    Args:
        x: (batch, channels, height, width).
        probability: of dropping, 0 <= probability < 1; each sample has its own draw.
    """
    keep = 1 - probability
    # not `bernoulli_(keep)`: torch.compile would compile anew for each epoch's probability
    mask = torch.rand(len(x), 1, 1, 1, device=x.device) < keep
    return x * (mask.to(x.dtype) / keep)


class ConvCell(nn.Module):
    """A cell with the edges that a genotype keeps.

    Args:
        genotype: of which the reduction or the normal cell is built.
        c_prev_prev: channels of the output of the cell before the previous one.
        c_prev: channels of the output of the previous cell.
        channels: channels of each node.
        reduction: whether this cell halves the image.
        reduction_prev: whether the previous cell did.

    Attributes:
        out_channels: channels of the output.

    Raises:
        ConfigError: an operation is not registered, or a reduction cell's output contains an
            input, which has another size.
    """

    def __init__(
        self,
        genotype: Genotype,
        c_prev_prev: int,
        c_prev: int,
        channels: int,
        reduction: bool,
        reduction_prev: bool,
    ) -> None:
        super().__init__()
        kind = "reduce" if reduction else "normal"
        self.concat = genotype.outputs[kind]
        if reduction and min(self.concat) < 2:
            raise ConfigError(
                f"Genotype: reduce_concat is {list(self.concat)}; a reduction cell cannot put its"
                " inputs (0 and 1) into its output, because they are larger."
            )
        self.out_channels = len(self.concat) * channels
        self.preprocess0: nn.Module
        if reduction_prev:
            self.preprocess0 = FactorizedReduce(c_prev_prev, channels)
        else:
            self.preprocess0 = ReLUConvNorm(c_prev_prev, channels)
        self.preprocess1 = ReLUConvNorm(c_prev, channels)
        nodes = genotype.cells[kind]
        self.predecessors = [[edge.predecessor for edge in node] for node in nodes]
        self.ops = nn.ModuleList(
            make_operation(
                edge.primitive,
                channels,
                stride=2 if reduction and edge.predecessor < 2 else 1,
                affine=True,
            )
            for node in nodes
            for edge in node
        )

    def forward(self, s0: Tensor, s1: Tensor, drop_path_probability: float = 0.0) -> Tensor:
        """Map the two previous cells' outputs to this cell's.

        Args:
            s0: (batch, c_prev_prev, h0, w0); twice the size of `s1` after a reduction.
            s1: (batch, c_prev, h, w).
            drop_path_probability: for every operation but the identity.

        Returns:
            (batch, out_channels, h, w); half of h and w in a reduction cell.
        """
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        ops = iter(self.ops)
        for predecessors in self.predecessors:
            outputs = []
            for predecessor in predecessors:
                op = next(ops)
                out = op(states[predecessor])
                if drop_path_probability > 0 and not isinstance(op, nn.Identity):
                    out = drop_path(out, drop_path_probability)
                outputs.append(out)
            states.append(torch.stack(outputs).sum(0) if len(outputs) > 2 else sum(outputs))
        return torch.cat([states[state] for state in self.concat], dim=1)


def stack_cells(
    genotype: Genotype,
    c_prev_prev: int,
    c_prev: int,
    channels: int,
    reductions: frozenset[int],
    layers: int,
    reduction_prev: bool,
) -> list[ConvCell]:
    """Build the cells of a network; each reduction cell doubles the channels.

    Args:
        genotype: the two kinds of cell.
        c_prev_prev: channels of the first cell's first input.
        c_prev: channels of the first cell's second input.
        channels: channels of each node before the first reduction.
        reductions: indices of the reduction cells.
        layers: number of cells.
        reduction_prev: whether the first cell's first input is twice as large as its second.
    """
    cells: list[ConvCell] = []
    for layer in range(layers):
        reduction = layer in reductions
        channels *= 2 if reduction else 1
        cell = ConvCell(genotype, c_prev_prev, c_prev, channels, reduction, reduction_prev)
        cells.append(cell)
        reduction_prev = reduction
        c_prev_prev, c_prev = c_prev, cell.out_channels
    return cells
