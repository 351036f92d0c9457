"""What surrounds the operations of the edges that leave one state.

Settings that change from epoch to epoch are attributes, shared by all states of a supernet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.conv.fused.others import ReducingSkips
from darts_ray.nn.conv.fused.pointwise_norm import image_of
from darts_ray.nn.conv.layers import drop_path

RunOps: TypeAlias = Callable[[Tensor, Tensor], "list[Tensor | None]"]
"""Maps a state and p (edges, columns) to what the operations of each edge add up to; None: zeros.
"""


class Connection(Protocol):
    """Surrounds the operations; one object serves all states of a supernet."""

    def channels(self, channels: int) -> int:
        """Return how many of a state's channels the operations see.

        Raises:
            ConfigError: the connection cannot divide so many channels.
        """

    def make_modules(self, channels: int, stride: int, edges: int) -> nn.Module:
        """Return the weights that the connection needs for one state and its edges."""

    def check_map(self, height: int, width: int) -> None:
        """Check that a map of this size can be halved.

        Raises:
            ConfigError: it cannot.
        """

    def wrap(
        self,
        run_ops: RunOps,
        x: Tensor,
        p: Tensor,
        edge_weights: Tensor | None,
        modules: nn.Module,
        stride: int,
    ) -> list[Tensor | None]:
        """Return what each edge that leaves a state adds to its node.

        Args:
            run_ops: the operations.
            x: the state, (batch, channels, height, width).
            p: weights of the primitives, (edges, columns).
            edge_weights: one factor per edge, (edges,); None: 1.
            modules: what `make_modules` returned for this state.
            stride: 1, or 2 for the inputs of a reduction cell.
        """


class Direct:
    """Nothing surrounds the operations; the base of other connections."""

    def channels(self, channels: int) -> int:
        """Return all."""
        return channels

    def make_modules(self, channels: int, stride: int, edges: int) -> nn.Module:
        """Return nothing."""
        return nn.Module()

    def check_map(self, height: int, width: int) -> None:
        """Accept every size."""

    def wrap(
        self,
        run_ops: RunOps,
        x: Tensor,
        p: Tensor,
        edge_weights: Tensor | None,
        modules: nn.Module,
        stride: int,
    ) -> list[Tensor | None]:
        """Scale the weights of the primitives: an edge's factor scales their sum."""
        return run_ops(x, p if edge_weights is None else p * edge_weights.unsqueeze(-1))


class PartialChannels(Direct):
    """PC-DARTS (Xu et al. 2020): the first 1/k of the channels go through the operations.

    `y_e = shuffle_k([ops(x[:C/k]); x[C/k:]])`, where stride 2 halves the other channels by a 2x2
    max pool. An edge's factor scales all of y_e.

    Args:
        k: one part of so many is operated on.

    Raises:
        ConfigError: k is less than 1.
    """

    def __init__(self, k: int = 4) -> None:
        if k < 1:
            raise ConfigError(f"PartialChannels: k must be at least 1, not {k}.")
        self.k = k

    def channels(self, channels: int) -> int:
        """Return the k-th part.

        Raises:
            ConfigError: k does not divide the channels.
        """
        if channels % self.k:
            raise ConfigError(
                f"PartialChannels: {channels} channels cannot be divided into {self.k} parts;"
                f" choose `channels` as a multiple of {self.k}, or another k."
            )
        return channels // self.k

    def check_map(self, height: int, width: int) -> None:
        """Check that both sides are even.

        Raises:
            ConfigError: one is odd, and the bypass pool would give another size than the rest.
        """
        if height % 2 or width % 2:
            raise ConfigError(
                f"PartialChannels: a map of {height}x{width} pixels cannot be halved by its 2x2"
                " pool; choose an image size that stays even before each reduction."
            )

    def wrap(
        self,
        run_ops: RunOps,
        x: Tensor,
        p: Tensor,
        edge_weights: Tensor | None,
        modules: nn.Module,
        stride: int,
    ) -> list[Tensor | None]:
        """As the class says."""
        seen = self.channels(x.shape[1])
        bypass = x[:, seen:]
        if stride == 2:
            self.check_map(*x.shape[-2:])
            bypass = F.max_pool2d(bypass, 2, 2)
        sums = super().wrap(run_ops, x[:, :seen], p, edge_weights, modules, stride)
        batch, _, height, width = bypass.shape
        rest = bypass.permute(0, 2, 3, 1).reshape(batch, height, width, self.k - 1, seen)
        rest = rest.transpose(3, 4)  # (batch, height, width, C/k, k - 1)
        outputs: list[Tensor | None] = []
        for edge, total in enumerate(sums):
            carried = rest if edge_weights is None else edge_weights[edge].to(rest.dtype) * rest
            outputs.append(_shuffled(total, carried))
        return outputs


def _shuffled(total: Tensor | None, rest: Tensor) -> Tensor:
    """Return (batch, C, height, width), whose channel c * k + g was channel g * C/k + c.

    Args:
        total: of group 0, (batch, C/k, height, width); None for zeros.
        rest: of the other groups, (batch, height, width, C/k, k - 1).
    """
    first = rest.new_zeros(()) if total is None else total.permute(0, 2, 3, 1).unsqueeze(-1)
    first = first.to(rest.dtype).expand(*rest.shape[:-1], 1)
    joined = torch.cat([first, rest], dim=-1)  # (batch, height, width, C/k, k)
    return joined.flatten(3).permute(0, 3, 1, 2)  # (batch, C, height, width)


class AuxiliarySkip(Direct):
    """DARTS- (Chu et al. 2021): `y_e = ops(x) + beta * x`, at stride 2 with a FactorizedReduce.

    Attributes:
        beta: to be set for each epoch; 1 at first.
    """

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = beta

    def make_modules(self, channels: int, stride: int, edges: int) -> nn.Module:
        """Return one FactorizedReduce per edge, where the stride is 2."""
        return ReducingSkips(channels, edges) if stride == 2 else nn.Module()

    def wrap(
        self,
        run_ops: RunOps,
        x: Tensor,
        p: Tensor,
        edge_weights: Tensor | None,
        modules: nn.Module,
        stride: int,
    ) -> list[Tensor | None]:
        """As the class says; an edge's factor scales all of y_e."""
        sums = super().wrap(run_ops, x, p, edge_weights, modules, stride)
        if isinstance(modules, ReducingSkips):
            rows = modules.outputs(x, range(len(p)))
            height, width = -(-x.shape[2] // 2), -(-x.shape[3] // 2)
            carried = [image_of(part, len(x), height, width) for part in rows.unbind(0)]
        else:
            carried = [x] * len(p)
        outputs: list[Tensor | None] = []
        for edge, (total, aux) in enumerate(zip(sums, carried, strict=True)):
            factor = self.beta if edge_weights is None else self.beta * edge_weights[edge]
            outputs.append(factor * aux if total is None else total + factor * aux)
        return outputs


class EdgeDropPath(Direct):
    """Drop path on the output of each mixed op (Zela et al. 2020), in training only.

    Draws come from the generator of the state's device, so that a resumed run repeats them.

    Attributes:
        probability: to be set for each epoch; 0 at first.
    """

    def __init__(self, probability: float = 0.0) -> None:
        self.probability = probability

    def wrap(
        self,
        run_ops: RunOps,
        x: Tensor,
        p: Tensor,
        edge_weights: Tensor | None,
        modules: nn.Module,
        stride: int,
    ) -> list[Tensor | None]:
        """As the class says."""
        sums = super().wrap(run_ops, x, p, edge_weights, modules, stride)
        if self.probability <= 0 or not modules.training:
            return sums
        return [None if total is None else drop_path(total, self.probability) for total in sums]


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
    ) -> list[Tensor | None]:
        """Wrap from inside out, and scale what comes out."""
        assert isinstance(modules, nn.ModuleList)

        def nested(level: int) -> RunOps:
            if level == len(self.connections):
                return run_ops

            def run(x: Tensor, p: Tensor) -> list[Tensor | None]:
                inner, connection = nested(level + 1), self.connections[level]
                return connection.wrap(inner, x, p, None, modules[level], stride)

            return run

        sums = nested(0)(x, p)
        if edge_weights is None:
            return sums
        # on the outputs: what the inner connections carry beside the operations is scaled as well
        return [
            None if total is None else edge_weights[edge].to(total.dtype) * total
            for edge, total in enumerate(sums)
        ]
