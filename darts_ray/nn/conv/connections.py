"""What surrounds the operations of the edges that leave one state.

Settings that change from epoch to epoch are attributes, shared by all states of a supernet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_ray.errors import ConfigError
from darts_ray.nn.conv.fused.others import ReducingSkips
from darts_ray.nn.conv.fused.pointwise_norm import image_of, pixel_products
from darts_ray.nn.conv.layers import drop_path

RunOps: TypeAlias = Callable[[Tensor, Tensor], "list[Tensor | None]"]
"""Maps a state and p (edges, columns) to what the operations of each edge add up to; None: zeros.
"""


class PartialAddend(NamedTuple):
    """What an edge adds to its node where only some channels go through operations."""

    operated: Tensor | None
    """The first channels, from the operations, (batch, C/k, height, width); None: zeros."""

    carried: Tensor
    """Where the others are read, (batch, C, height, width); its first C/k are not read."""

    factor: Tensor | None
    """Of the carried channels, 0-dim; None: 1."""


Addend: TypeAlias = "Tensor | PartialAddend | None"
"""What an edge adds to its node; None: zeros."""


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
    ) -> Sequence[Addend]:
        """Return what each edge that leaves a state adds to its node, for `add_up`.

        Args:
            run_ops: the operations.
            x: the state, (batch, channels, height, width).
            p: weights of the primitives, (edges, columns).
            edge_weights: one factor per edge, (edges,); None: 1.
            modules: what `make_modules` returned for this state.
            stride: 1, or 2 for the inputs of a reduction cell.
        """

    def add_up(self, addends: Sequence[Addend]) -> Tensor | None:
        """Return a node, (batch, C, height, width), from what its edges add; None: zeros."""


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
    ) -> Sequence[Addend]:
        """Scale the weights of the primitives: an edge's factor scales their sum."""
        return _scaled(run_ops, x, p, edge_weights)

    def add_up(self, addends: Sequence[Addend]) -> Tensor | None:
        """Return the sum."""
        return _sum([cast("Tensor | None", addend) for addend in addends])


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
    ) -> Sequence[Addend]:
        """As the class says; the shuffle is left to `add_up`, once per node."""
        seen = self.channels(x.shape[1])
        carried = x
        if stride == 2:
            self.check_map(*x.shape[-2:])
            carried = F.max_pool2d(x, 2, 2)
        select = torch.eye(x.shape[1], seen, dtype=x.dtype, device=x.device)
        sums = _scaled(run_ops, pixel_products([(x, select)]), p, edge_weights)
        factors = [None] * len(p) if edge_weights is None else edge_weights.unbind()
        return [
            PartialAddend(total, carried, factor)
            for total, factor in zip(sums, factors, strict=True)
        ]

    def add_up(self, addends: Sequence[Addend]) -> Tensor | None:
        """Shuffle both sums into place.

        The channel g * C/k + c comes to c * k + g: a product with a permutation matrix, which
        moves single numbers many times as fast as a copy, and leaves their bits alone.
        """
        if not addends:
            return None
        parts = [cast(PartialAddend, addend) for addend in addends]
        like = parts[0].carried
        channels, seen = like.shape[1], self.channels(like.shape[1])
        eye = torch.eye(channels, dtype=like.dtype, device=like.device)
        shuffle = eye.view(seen, self.k, channels).transpose(0, 1).flatten(0, 1)  # (from, to)
        others = F.pad(shuffle[seen:], (0, 0, seen, 0))  # without what is operated on
        products = [
            (part.carried, others if part.factor is None else part.factor.to(others) * others)
            for part in parts
        ]
        operated = _sum([part.operated for part in parts])
        if operated is not None:
            products.append((operated.to(like.dtype), shuffle[:seen]))
        return pixel_products(products)


def _scaled(
    run_ops: RunOps, x: Tensor, p: Tensor, edge_weights: Tensor | None
) -> list[Tensor | None]:
    return run_ops(x, p if edge_weights is None else p * edge_weights.unsqueeze(-1))


def _sum(addends: Sequence[Tensor | None]) -> Tensor | None:
    total: Tensor | None = None
    for addend in addends:
        if addend is not None:
            total = addend if total is None else total + addend
    return total


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
    ) -> Sequence[Addend]:
        """As the class says; an edge's factor scales all of y_e."""
        sums = _scaled(run_ops, x, p, edge_weights)
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
    ) -> Sequence[Addend]:
        """As the class says."""
        sums = _scaled(run_ops, x, p, edge_weights)
        if self.probability <= 0 or not modules.training:
            return sums
        return [None if total is None else drop_path(total, self.probability) for total in sums]
