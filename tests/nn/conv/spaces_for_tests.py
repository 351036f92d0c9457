"""Search spaces of somebody's own, for tests of the conv supernet."""

from __future__ import annotations

from torch import Tensor, nn

from darts_ray.nn import register_operation
from darts_ray.space import CellSpace, EdgeSpace, SearchSpace


@register_operation("test_gated_conv")
class GatedConv(nn.Module):
    """A user's operation with parameters of its own."""

    def __init__(self, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).sigmoid()


def own_space(
    name: str, primitives: tuple[str, ...], nodes: int, output: str = "concat", **options: int
) -> SearchSpace:
    return SearchSpace.darts(name, primitives, nodes, output=output, **options)


def _sparse_cell(name: str, primitives: list[tuple[str, ...]]) -> CellSpace:
    """Node 0 reads the second input, node 1 the first and node 0, node 2 not the second."""
    pairs = [(1, 0), (0, 1), (2, 1), (0, 2), (2, 2), (3, 2)]
    edges = [
        EdgeSpace(source, node, names)
        for (source, node), names in zip(pairs, primitives, strict=True)
    ]
    return CellSpace(name, 2, tuple(edges), output="concat", keep=2)


LISTS = [
    ("skip_connect", "dil_conv_3x3"),
    ("sep_conv_3x3", "test_gated_conv"),
    ("max_pool_3x3", "skip_connect"),
    ("none", "skip_connect", "sep_conv_3x3"),
    ("dil_conv_3x3", "dil_conv_5x5"),
    ("test_gated_conv",),
]
WIDE = own_space(
    "wide", ("sep_conv_7x7", "skip_connect", "conv_7x1_1x7", "none", "test_gated_conv"), 3
)
POOLS = own_space("pools", ("avg_pool_3x3", "max_pool_3x3"), 2)
CONVS = own_space("convs", ("dil_conv_5x5", "none"), 2)
LAST_TWO = own_space("last two", ("skip_connect", "sep_conv_3x3"), 3, num_outputs=2)
MEAN = own_space("mean", ("skip_connect", "sep_conv_3x3"), 2, "mean")
LAST = own_space("last", ("skip_connect", "dil_conv_3x3", "avg_pool_3x3"), 2, "last")
SPARSE = SearchSpace(
    "sparse",
    (_sparse_cell("normal", LISTS), _sparse_cell("reduce", LISTS[::-1])),
    skeleton="darts",
)
