"""Mixed operations of a convolutional supernet, for all edges that leave one state at once.

The edges that leave a state read the same tensor, so they are computed together:

- its ReLU, and its pooled and normalised versions, are computed once, not once per edge;
- a depthwise convolution runs once over an image with E * C channels, C for each of E edges (on
  a CPU E is limited, see `_GROUP_BYTES`);
- the mixture of pools and skip is one (E, 3) by (3, N * C) matrix product;
- pointwise convolutions with their normalisations, the mixing and the sum over primitives are
  matrix products over all edges (see `pointwise_norm`);
- images of few channels stand side by side (see `folding`);
- `none` contributes nothing and costs nothing.

Edges may have different primitives. Each operation is kept for the edges that list it, and the
edges that have the same separable and dilated convolutions are computed together. Running only
the active primitives is the same with shorter lists.

Weights of the same kind are stored together, edge after edge along the first dimension; this is
the layout on CPU and GPU alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from darts_ray.nn.conv.fused.convs import mixed_convs
from darts_ray.nn.conv.fused.dense import POOL, SKIP, Term, mixed_dense
from darts_ray.nn.conv.fused.folding import folded, folds_of, unfolded
from darts_ray.nn.conv.fused.others import (
    DENSE,
    DenseConvs,
    EdgeOperations,
    EdgeWeights,
    ReducingSkips,
    RegisteredOperations,
)
from darts_ray.nn.conv.fused.pointwise_norm import image_of, pixel_rows, unbind_edges
from darts_ray.nn.conv.fused.pools import WITHOUT_WEIGHTS
from darts_ray.nn.conv.fused.separable import SEPARABLE, SeparableConvs

_GROUP_BYTES = 1 << 20
"""Activations that a CPU computes at once with one thread: what its cache holds. Measured with
1 MiB of L2 cache per core, edges of 1 MiB: four of them at once take 1.07 times as long."""

_SHARED_GROUP_BYTES = 1 << 22
"""The same with several threads, which share large operations better: there it takes 0.92 times
as long. With edges of 4 MiB, two at once take 1.03 times as long as one by one, four 1.10."""

Columns: TypeAlias = dict[int, int]
"""By edge that runs a primitive, the primitive's column of the alphas."""


class _Group(NamedTuple):
    """Edges that run the same separable and dilated convolutions."""

    names: tuple[str, ...]
    edges: list[int]


class OutgoingEdges(nn.Module):
    """The mixed ops of all edges that leave one state.

    Args:
        primitives: of each edge, in the order of the alpha columns.
        channels: of the state, as far as the operations see it.
        stride: 1, or 2 for the inputs of a reduction cell.
        skeleton: of the space, whose pools the edges have.
    """

    def __init__(
        self,
        primitives: Sequence[Sequence[str]],
        channels: int,
        stride: int,
        skeleton: str = "darts",
    ) -> None:
        super().__init__()
        self.primitives = [tuple(names) for names in primitives]
        self.num_edges, self.stride = len(primitives), stride
        # asked here, because torch.compile cannot trace the question
        self._group_bytes = _GROUP_BYTES if torch.get_num_threads() == 1 else _SHARED_GROUP_BYTES
        self._shared = WITHOUT_WEIGHTS[skeleton]
        self.convs = nn.ModuleDict()
        self.others = nn.ModuleDict()
        self._columns = _columns(self.primitives)
        # by primitive, where each of its edges is in the order in which weights are stored
        self._positions: dict[str, dict[int, int]] = {}
        for name, columns in self._columns.items():
            edges = len(columns)
            self._positions[name] = {edge: position for position, edge in enumerate(columns)}
            if name == "skip_connect" and stride == 2:
                self.others[name] = ReducingSkips(channels, edges)
            elif name in self._shared:
                continue
            elif name in SEPARABLE:
                self.convs[name] = SeparableConvs(name, channels, stride, edges)
            elif name in DENSE and stride == 1:
                self.others[name] = DenseConvs(DENSE[name], channels, edges)
            else:
                self.others[name] = RegisteredOperations(name, channels, stride, edges, skeleton)

    def forward(
        self, x: Tensor, p: Tensor, active: Sequence[Sequence[int]] | None = None
    ) -> list[Tensor | None]:
        """Return what each edge adds to its node.

        Args:
            x: the state, (batch, channels, h, w).
            p: weights of the primitives, (edges, columns).
            active: for each edge, the columns that run; None: all.

        Returns:
            One (batch, channels, ceil(h / stride), ceil(w / stride)) per edge; None for zeros.
        """
        running = self._columns if active is None else _columns(self.primitives, active)
        size = (-(-x.shape[2] // self.stride), -(-x.shape[3] // self.stride))
        if self._is_dense(x, p):
            return self._mix_dense(x, p, running)
        folds = folds_of(x) if any(name in running for name in self.convs) else 1
        sums = {
            edge: unfolded(image_of(rows, len(x) // folds, *size), folds)
            for edge, rows in self._shared_and_convs(folded(x, folds), p, running, size, folds)
        }
        for name, module in self.others.items():
            if name in running:
                columns = running[name]
                positions = [self._positions[name][edge] for edge in columns]
                operations = cast(EdgeOperations, module)
                weighted = operations.weighted(x, positions, self._weights_of(columns, p))
                for edge, rows in zip(columns, weighted.unbind(0), strict=True):
                    image = image_of(rows, len(x), *size)
                    sums[edge] = sums[edge] + image if edge in sums else image
        return [sums.get(edge) for edge in range(self.num_edges)]

    def _is_dense(self, x: Tensor, p: Tensor) -> bool:
        """Return whether `mixed_dense` can compute the edges, which is fast on a CPU."""
        return (
            x.device.type == "cpu"
            and x.dtype == p.dtype
            and self.stride == 1
            and self._shared is WITHOUT_WEIGHTS["nasbench201"]
            and set(self._columns) <= {*self._shared, *DENSE}
        )

    def _mix_dense(self, x: Tensor, p: Tensor, running: dict[str, Columns]) -> list[Tensor | None]:
        convs = [name for name in DENSE if name in running]
        places = {"avg_pool_3x3": POOL, "skip_connect": SKIP}
        places.update(zip(convs, range(len(convs)), strict=True))
        terms = [
            Term(edge, column, places[name], self._positions[name][edge])
            for name, columns in running.items()
            for edge, column in columns.items()
        ]
        modules = [cast(DenseConvs, self.others[name]) for name in convs]
        weights = [module.weight for module in modules]
        sums = mixed_dense(x, p, terms, weights, [module.bias for module in modules])
        return [sums.get(edge) for edge in range(self.num_edges)]

    def _shared_and_convs(
        self,
        x: Tensor,
        p: Tensor,
        running: dict[str, Columns],
        size: tuple[int, int],
        folds: int,
    ) -> Iterable[tuple[int, Tensor]]:
        """Return edges and their sums over these primitives, (pixels, channels); `x` is folded."""
        shared_edges, mixture = self._mix_shared(x, p, running, folds)
        groups = self._groups(running, set(shared_edges))
        if mixture is None or (len(groups) == 1 and groups[0].edges == shared_edges):
            sums: dict[int, Tensor] = {}
        else:
            sums = dict(zip(shared_edges, unbind_edges(mixture), strict=True))
            mixture = None
        for group in groups:
            chunk = self._chunk_size(x, size, len(group.edges))
            bases: Sequence[Tensor | None]
            if mixture is not None:
                bases = torch.split(mixture, chunk)
            else:
                bases = [
                    torch.stack([sums[edge] for edge in edges]) if edges[0] in sums else None
                    for edges in _chunks(group.edges, chunk)
                ]
            for edges, rows in self._run_convs(x, p, running, group, chunk, bases, folds):
                sums.update(zip(edges, unbind_edges(rows), strict=True))
        return sums.items()

    def _mix_shared(
        self, x: Tensor, p: Tensor, running: dict[str, Columns], folds: int
    ) -> tuple[list[int], Tensor | None]:
        """Mix the primitives without weights, on the edges that run one.

        Where not all primitives run, or on few channels only, pools would be most of what is kept
        for the backward pass, and they are cheap to compute again.

        Returns:
            the edges, and (edges, pixels, channels), or None if there are none.
        """
        names = [name for name in running if name in self._shared and name not in self.others]
        if not names:
            return [], None
        edges = sorted({edge for name in names for edge in running[name]})
        columns = [self._weights_of(running[name], p, edges) for name in names]
        mix = torch.stack(columns, dim=1).to(x.dtype)  # (edges, primitives)

        def mixture(x: Tensor, mix: Tensor) -> Tensor:
            results = [pixel_rows(self._shared[name](x, self.stride, folds), 1) for name in names]
            stacked = torch.cat(results) if len(results) > 1 else results[0]
            return (mix @ stacked.flatten(1)).view(len(edges), *stacked.shape[1:])

        is_lean = running is not self._columns or folds > 1
        if is_lean and names != ["skip_connect"]:
            return edges, checkpoint(
                mixture, x, mix, use_reentrant=False, preserve_rng_state=False
            )
        return edges, mixture(x, mix)

    def _groups(self, running: dict[str, Columns], shared_edges: set[int]) -> list[_Group]:
        groups: dict[tuple[tuple[str, ...], bool], list[int]] = {}
        for edge in range(self.num_edges):
            names = tuple(name for name in self.convs if edge in running.get(name, ()))
            if names:
                groups.setdefault((names, edge in shared_edges), []).append(edge)
        return [_Group(names, edges) for (names, _), edges in groups.items()]

    def _chunk_size(self, x: Tensor, size: tuple[int, int], edges: int) -> int:
        """Return how many edges to compute at once: all on a GPU, else what was measured best."""
        if x.device.type != "cpu":
            return edges
        bytes_per_edge = len(x) * x.shape[1] * size[0] * size[1] * x.element_size()
        return max(1, min(edges, self._group_bytes // bytes_per_edge))

    def _run_convs(
        self,
        x: Tensor,
        p: Tensor,
        running: dict[str, Columns],
        group: _Group,
        chunk: int,
        bases: Sequence[Tensor | None],
        folds: int,
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yield some of a group's edges, and base plus convolutions, (edges, pixels, channels)."""
        kernels, columns = [], []
        for name in group.names:
            positions = [self._positions[name][edge] for edge in group.edges]
            kernels.append(cast(SeparableConvs, self.convs[name]).kernels(positions, chunk, folds))
            columns.append(
                self._weights_of({edge: running[name][edge] for edge in group.edges}, p)
            )
        mixes = torch.split(torch.stack(columns), chunk, dim=1)  # (primitives, edges) each
        chunks = _chunks(group.edges, chunk)
        for edges, part, mix, base in zip(
            chunks, zip(*kernels, strict=True), mixes, bases, strict=True
        ):
            yield edges, mixed_convs(x, part, mix, base)

    def _weights_of(
        self, columns: Columns, p: Tensor, edges: Sequence[int] | None = None
    ) -> Tensor:
        """Return one primitive's weights, (edges,); 0 for given edges that do not run it."""
        edges = list(columns) if edges is None else edges
        if len(columns) == len(edges) == self.num_edges and len(set(columns.values())) == 1:
            return p[:, columns[0]]
        # stacked, not indexed by a list: that would wait for a copy to the device
        return torch.stack(
            [p[edge, columns[edge]] if edge in columns else p.new_zeros(()) for edge in edges]
        )

    def edge_weights(self, edge: int) -> EdgeWeights:
        """Yield the weights of one edge, as `COLUMN.` and the name in the operation's module."""
        for column, name in enumerate(self.primitives[edge]):
            for modules in (self.convs, self.others):
                if name in modules:
                    operations = cast("SeparableConvs | EdgeOperations", modules[name])
                    for key, view in operations.edge_weights(self._positions[name][edge]):
                        yield f"{column}.{key}", view


def _columns(
    primitives: Sequence[Sequence[str]], active: Sequence[Sequence[int]] | None = None
) -> dict[str, Columns]:
    """Return where each primitive runs, without `none`; in the order of first appearance."""
    columns: dict[str, Columns] = {}
    for edge, names in enumerate(primitives):
        for column, name in enumerate(names):
            if name != "none" and (active is None or column in active[edge]):
                columns.setdefault(name, {})[edge] = column
    return columns


def _chunks(edges: list[int], size: int) -> list[list[int]]:
    return [edges[first : first + size] for first in range(0, len(edges), size)]
