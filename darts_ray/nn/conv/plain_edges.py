"""The mixed operation of one edge, written as the paper has it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from darts_ray.nn.conv.operations import forget_running_statistics, make_operation


class PlainEdge(nn.Module):
    """`sum_o p_o o(x)`: one module per primitive, one product each.

    Slow and obvious; `fused.edges.OutgoingEdges` computes the same for all edges of a state.

    Args:
        primitives: in the order of the alpha columns.
        channels: of the state, as far as the operations see it.
        stride: 1, or 2 for the inputs of a reduction cell.
        skeleton: of the space, whose pools the edge has.
    """

    def __init__(
        self, primitives: Sequence[str], channels: int, stride: int, skeleton: str
    ) -> None:
        super().__init__()
        self.primitives = tuple(primitives)
        self.ops = nn.ModuleList(
            nn.Identity()  # `none`, which never runs
            if name == "none"
            else forget_running_statistics(make_operation(name, channels, stride, False, skeleton))
            for name in primitives
        )

    def forward(self, x: Tensor, p: Tensor, active: Sequence[int] | None = None) -> Tensor | None:
        """Return what the edge adds to its node.

        Args:
            x: (batch, channels, h, w).
            p: weights of the primitives, (columns,).
            active: the columns that run; None: all.

        Returns:
            (batch, channels, ceil(h / stride), ceil(w / stride)); None for zeros.
        """
        total: Tensor | None = None
        for column, name in enumerate(self.primitives):
            if name != "none" and (active is None or column in active):
                addend = p[column].to(x.dtype) * self.ops[column](x)
                total = addend if total is None else total + addend
        return total
