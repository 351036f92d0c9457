"""The published cells that the paper compares, by the names of the original code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from darts_ray.space.edges import Edge
from darts_ray.space.first_format import ConvGenotype, RecurrentGenotype
from darts_ray.space.genotype import Genotype

_SHORT = {
    "sep3": "sep_conv_3x3",
    "sep5": "sep_conv_5x5",
    "sep7": "sep_conv_7x7",
    "dil3": "dil_conv_3x3",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "skip": "skip_connect",
    "7x1": "conv_7x1_1x7",
}


def _cell(text: str) -> tuple[Edge, ...]:
    """Read edges written as `primitive:predecessor`, in the short names above or in full."""
    pairs = (item.split(":") for item in text.split())
    return tuple(Edge(_SHORT.get(name, name), int(predecessor)) for name, predecessor in pairs)


zoo: Mapping[str, Genotype] = MappingProxyType(
    {
        "DARTS_V1": ConvGenotype(
            _cell("sep3:1 sep3:0 skip:0 sep3:1 skip:0 sep3:1 sep3:0 skip:2"),
            (2, 3, 4, 5),
            _cell("max:0 max:1 skip:2 max:0 max:0 skip:2 skip:2 avg:0"),
            (2, 3, 4, 5),
        ),
        "DARTS_V2": ConvGenotype(
            _cell("sep3:0 sep3:1 sep3:0 sep3:1 sep3:1 skip:0 skip:0 dil3:2"),
            (2, 3, 4, 5),
            _cell("max:0 max:1 skip:2 max:1 max:0 skip:2 skip:2 max:1"),
            (2, 3, 4, 5),
        ),
        "NASNet": ConvGenotype(
            _cell("sep5:1 sep3:0 sep5:0 sep3:0 avg:1 skip:0 avg:0 avg:0 sep3:1 skip:1"),
            (2, 3, 4, 5, 6),
            _cell("sep5:1 sep7:0 max:1 sep7:0 avg:1 sep5:0 skip:3 avg:2 sep3:2 max:1"),
            (4, 5, 6),
        ),
        "AmoebaNet": ConvGenotype(
            _cell("avg:0 max:1 sep3:0 sep5:2 sep3:0 avg:3 sep3:1 skip:1 skip:0 avg:1"),
            (4, 5, 6),
            _cell("avg:0 sep3:1 max:0 sep7:2 sep7:0 avg:1 max:0 max:1 7x1:0 sep3:5"),
            (3, 4, 6),
        ),
        "RECURRENT_DARTS_V1": RecurrentGenotype(
            _cell("relu:0 relu:1 tanh:2 relu:3 relu:4 identity:1 relu:5 relu:1"),
            tuple(range(1, 9)),
        ),
        "RECURRENT_DARTS_V2": RecurrentGenotype(
            _cell("sigmoid:0 relu:1 relu:1 identity:1 tanh:2 sigmoid:5 tanh:3 relu:5"),
            tuple(range(1, 9)),
        ),
        "ENAS": RecurrentGenotype(
            _cell("tanh:0 tanh:1 relu:1 tanh:3 tanh:3 relu:3 relu:4 relu:7 relu:8 relu:8 relu:8"),
            (2, 5, 6, 9, 10, 11),
        ),
    }
)
