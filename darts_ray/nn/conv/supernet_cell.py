"""The cell of a convolutional supernet, whose every edge is a mixed op."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from darts_ray.nn.conv.connections import Addend, Connection, Direct
from darts_ray.nn.conv.fused.edges import OutgoingEdges
from darts_ray.nn.conv.operations import check_registered
from darts_ray.nn.conv.plain_edges import PlainEdge
from darts_ray.nn.conv.skeleton import Preprocessing, joined
from darts_ray.nn.mixing import Active

if TYPE_CHECKING:
    from darts_ray.space import CellSpace


class SupernetCell(nn.Module):
    """A cell whose every edge is a mixed op.

    Args:
        cell: topology.
        skeleton: of the space.
        channels: channels of each node.
        reduction: whether this cell halves the image.
        preprocessing: of the inputs; None: they are taken as they are.
        fused: compute all edges that leave a state together, or one by one.
        connection: what surrounds the operations.
    """

    def __init__(
        self,
        cell: CellSpace,
        skeleton: str,
        channels: int,
        reduction: bool,
        preprocessing: Preprocessing | None,
        fused: bool,
        connection: Connection | None,
    ) -> None:
        super().__init__()
        check_registered(cell)
        self.name = cell.name
        self.cell, self.reduction, self.fused = cell, reduction, fused
        self.out_channels = channels * (len(cell.output_states) if cell.output == "concat" else 1)
        self.has_preprocessing = preprocessing is not None
        if preprocessing is not None:
            self.preprocess0, self.preprocess1 = preprocessing
        self.connection: Connection = connection or Direct()
        seen = self.connection.channels(channels)
        # States after the last one that edges leave have no module.
        self._leaving = _without_empty_tail(
            [cell.leaving(state) for state in range(cell.inputs + cell.nodes)]
        )
        if fused:
            self.states = nn.ModuleList(
                OutgoingEdges(
                    [cell.edges[row].primitives for row in rows],
                    seen,
                    self._stride(state),
                    skeleton,
                )
                for state, rows in enumerate(self._leaving)
            )
        else:
            self.edges = nn.ModuleList(
                PlainEdge(edge.primitives, seen, self._stride(edge.source), skeleton)
                for edge in cell.edges
            )
        self.connections = nn.ModuleList(
            self.connection.make_modules(channels, self._stride(state), len(rows))
            for state, rows in enumerate(self._leaving)
        )

    def forward(
        self,
        inputs: Sequence[Tensor],
        p: Tensor,
        edge_weights: Tensor | None = None,
        active: Active | None = None,
    ) -> Tensor:
        """Map the previous cells' outputs to this cell's.

        Args:
            inputs: outputs of the previous cells, the last one last; rectified, if the cell has
                preprocessing.
            p: weights of the primitives, (edges, columns).
            edge_weights: one factor per edge, (edges,).
            active: the primitives that run; None: all.

        Returns:
            (batch, out_channels, h, w), or half of h and w in a reduction cell.
        """
        states = list(inputs)
        if self.has_preprocessing:
            first, second = inputs
            states = [self.preprocess0.after_relu(first), self.preprocess1.after_relu(second)]
        addends: list[list[Addend]] = [[] for _ in range(self.cell.nodes)]
        for state, rows in enumerate(self._leaving):
            if state >= self.cell.inputs:
                states.append(self._node(states, addends[state - self.cell.inputs]))
            if not rows:
                continue
            outgoing = self._run(state, states[state], rows, p, edge_weights, active)
            for row, addend in zip(rows, outgoing, strict=True):
                addends[self.cell.edges[row].node].append(addend)
        for node in range(len(states) - self.cell.inputs, self.cell.nodes):
            states.append(self._node(states, addends[node]))
        return joined([states[state] for state in self.cell.output_states], self.cell.output)

    def _run(
        self,
        state: int,
        x: Tensor,
        rows: Sequence[int],
        p: Tensor,
        edge_weights: Tensor | None,
        active: Active | None,
    ) -> Sequence[Addend]:
        """Return what each edge that leaves a state adds to its node."""
        # stacked, not indexed by a list: that would wait for a copy to the device
        own_p = torch.stack([p[row] for row in rows])  # (edges of the state, columns)
        factors = None
        if edge_weights is not None:
            factors = torch.stack([edge_weights[row] for row in rows])
        columns = None if active is None else [active[row] for row in rows]

        def run_ops(x: Tensor, p: Tensor) -> list[Tensor | None]:
            if self.fused:
                outputs: list[Tensor | None] = self.states[state](x, p, columns)
                return outputs
            return [
                self.edges[row](x, p[edge], None if columns is None else columns[edge])
                for edge, row in enumerate(rows)
            ]

        modules = self.connections[state]
        return self.connection.wrap(run_ops, x, own_p, factors, modules, self._stride(state))

    def _stride(self, state: int) -> int:
        return 2 if self.reduction and state < self.cell.inputs else 1

    def _node(self, states: Sequence[Tensor], addends: Sequence[Addend]) -> Tensor:
        """Return the value of a node."""
        node = self.connection.add_up(addends)
        if node is not None:
            return node
        x = states[self.cell.inputs - 1]
        return torch.zeros_like(x[:, :, ::2, ::2] if self.reduction else x)

    def edge_weights(self, row: int) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights of one edge: `COLUMN.` and the name in the operation's module."""
        if not self.fused:
            yield from cast(PlainEdge, self.edges[row]).ops.named_parameters()
            return
        edge = self.cell.edges[row]
        outgoing = cast(OutgoingEdges, self.states[edge.source])
        yield from outgoing.edge_weights(list(self._leaving[edge.source]).index(row))


def _without_empty_tail(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    while rows and not rows[-1]:
        rows.pop()
    return rows
