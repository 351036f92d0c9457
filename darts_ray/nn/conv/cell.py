"""The cell of a derived convolutional network."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.conv.layers import drop_path
from darts_ray.nn.conv.operations import make_operation
from darts_ray.nn.conv.skeleton import (
    CellPlace,
    Preprocessing,
    ResidualBlock,
    joined,
    make_preprocessing,
)
from darts_ray.runtime.workers import Rows
from darts_ray.space import Genotype


class Nothing(nn.Module):
    """The kept primitive `none`, of spaces that keep every edge; its edge is left out."""


class ConvCell(nn.Module):
    """A cell with the edges that a genotype keeps; a node without edges is zero.

    Args:
        genotype: of which one cell is built.
        name: of the cell.
        channels: channels of each node.
        reduction: whether this cell halves the image.
        preprocessing: of the two inputs; None: the one input is taken as it is.

    Attributes:
        out_channels: channels of the output.

    Raises:
        ConfigError: an operation is not registered, or a reduction cell's output contains an
            input, which has another size.
    """

    def __init__(
        self,
        genotype: Genotype,
        name: str,
        channels: int,
        reduction: bool,
        preprocessing: Preprocessing | None,
    ) -> None:
        super().__init__()
        self.reduction, self.output = reduction, genotype.output
        self.output_states = genotype.outputs[name]
        self.num_inputs = 1 if preprocessing is None else 2
        if reduction and min(self.output_states) < self.num_inputs:
            raise ConfigError(
                f"Genotype: {name}_concat is {list(self.output_states)}; a reduction cell cannot"
                " put its inputs (0 and 1) into its output, because they are larger."
            )
        self.out_channels = channels * (len(self.output_states) if self.output == "concat" else 1)
        if preprocessing is not None:
            self.preprocess0, self.preprocess1 = preprocessing
        nodes = genotype.cells[name]
        self.predecessors = [[edge.predecessor for edge in node] for node in nodes]
        self.ops = nn.ModuleList(
            Nothing()
            if edge.primitive == "none"
            else make_operation(
                edge.primitive,
                channels,
                2 if reduction and edge.predecessor < self.num_inputs else 1,
                True,
                genotype.skeleton,
            )
            for node in nodes
            for edge in node
        )

    def forward(
        self,
        inputs: Sequence[Tensor],
        drop_path_probability: float = 0.0,
        rows: Rows | None = None,
    ) -> Tensor:
        """Map the previous cells' outputs to this cell's.

        Args:
            inputs: the last `num_inputs` outputs, the previous cell's last; the one before may be
                twice as large.
            drop_path_probability: for every operation but the identity.
            rows: which samples of a larger batch these are; None: all of them.

        Returns:
            (batch, out_channels, h, w); half of h and w in a reduction cell.
        """
        states = list(inputs)
        if self.num_inputs == 2:
            states = [self.preprocess0(inputs[0]), self.preprocess1(inputs[1])]
        ops = iter(self.ops)
        for predecessors in self.predecessors:
            addends = []
            for predecessor in predecessors:
                op = next(ops)
                if isinstance(op, Nothing):
                    continue
                out = op(states[predecessor])
                if drop_path_probability > 0 and not isinstance(op, nn.Identity):
                    out = drop_path(out, drop_path_probability, rows)
                addends.append(out)
            states.append(reduce(add, addends) if addends else self._zeros(states))
        return joined([states[state] for state in self.output_states], self.output)

    def _zeros(self, states: Sequence[Tensor]) -> Tensor:
        """Return a node without edges."""
        x = states[self.num_inputs - 1]
        return torch.zeros_like(x[:, :, ::2, ::2] if self.reduction else x)


def stack_cells(
    genotype: Genotype, places: Sequence[CellPlace], c_prev_prev: int, c_prev: int
) -> list[ConvCell | ResidualBlock]:
    """Build the cells of a network.

    Args:
        genotype: the cells by name.
        places: where they stand, as `skeleton.places` yields them.
        c_prev_prev: channels of the first cell's first input.
        c_prev: channels of the first cell's second input, or its only one.
    """
    cells: list[ConvCell | ResidualBlock] = []
    for name, channels, reduction, reduction_prev in places:
        cell: ConvCell | ResidualBlock
        if name:
            preprocessing = None
            if genotype.skeleton == "darts":
                preprocessing = make_preprocessing(
                    c_prev_prev, c_prev, channels, reduction_prev, affine=True
                )
            cell = ConvCell(genotype, name, channels, reduction, preprocessing)
        else:
            cell = ResidualBlock(c_prev, channels)
        cells.append(cell)
        c_prev_prev, c_prev = c_prev, cell.out_channels
    return cells
