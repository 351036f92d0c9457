"""Several connections as one, and the parts of a supernet's connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from darts_ray.nn.conv.connections import Addend, Connection, Direct, RunOps

PartT = TypeVar("PartT")


class Chain(Direct):
    """Several connections, the first outermost.

    Args:
        connections: for example `PartialChannels(4), EdgeDropPath()`, where drop path acts on
            what passes through operations only; or the other way round, on all of the edge.
    """

    def __init__(self, *connections: Connection) -> None:
        self.connections = connections

    def channels(self, channels: int) -> int:
        """Return what the innermost connection leaves."""
        for connection in self.connections:
            channels = connection.channels(channels)
        return channels

    def make_modules(self, channels: int, stride: int, edges: int) -> nn.Module:
        """Return the modules of all connections."""
        modules = nn.ModuleList()
        for connection in self.connections:
            modules.append(connection.make_modules(channels, stride, edges))
            channels = connection.channels(channels)
        return modules

    def check_map(self, height: int, width: int) -> None:
        """Ask all connections."""
        for connection in self.connections:
            connection.check_map(height, width)

    def wrap(
        self,
        run_ops: RunOps,
        x: Tensor,
        p: Tensor,
        edge_weights: Tensor | None,
        modules: nn.Module,
        stride: int,
    ) -> Sequence[Addend]:
        """Wrap from inside out, and scale what comes out."""
        assert isinstance(modules, nn.ModuleList)

        def nested(level: int) -> RunOps:
            if level == len(self.connections):
                return run_ops

            def run(x: Tensor, p: Tensor) -> list[Tensor | None]:
                inner, connection = nested(level + 1), self.connections[level]
                addends = connection.wrap(inner, x, p, None, modules[level], stride)
                return [connection.add_up([addend]) for addend in addends]

            return run

        sums = nested(0)(x, p)
        if edge_weights is None:
            return sums
        # on the outputs: what the inner connections carry beside the operations is scaled as well
        return [
            None if total is None else edge_weights[edge].to(total.dtype) * total
            for edge, total in enumerate(sums)
        ]


def connections_of(supernet: Any, kind: type[PartT]) -> Iterator[PartT]:
    """Yield the parts of a supernet's connection that are of one kind."""
    connection = getattr(supernet, "connection", None)
    for part in connection.connections if isinstance(connection, Chain) else (connection,):
        if isinstance(part, kind):
            yield part
