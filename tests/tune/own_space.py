"""What `space.imports` of a test names: a registered operation, and a space that offers it."""

from __future__ import annotations

from torch import nn

from darts_ray.nn import register_operation
from darts_ray.space import SearchSpace, spaces
from darts_ray.space.topology import CellSpace, EdgeSpace


@register_operation("halved_for_a_test")
def halved(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.AvgPool2d(3, stride, padding=1)


EDGES = (
    EdgeSpace(0, 0, ("halved_for_a_test", "skip_connect")),
    EdgeSpace(1, 0, ("halved_for_a_test",)),
    EdgeSpace(2, 1, ("none", "halved_for_a_test", "sep_conv_3x3")),
)
spaces.register(
    SearchSpace(
        "own-for-a-test",
        tuple(CellSpace(name, 2, EDGES, output="mean", keep=1) for name in ("normal", "reduce")),
    )
)
