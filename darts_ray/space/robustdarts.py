"""The spaces S1 to S4 in which DARTS collapses (Zela et al., ICLR 2020).

The topology is that of DARTS; S1 has two primitives per edge, which differ from edge to edge.
The order within a pair is the order of the alpha columns.
"""

from __future__ import annotations

from darts_ray.space.spaces import SearchSpace, spaces
from darts_ray.space.topology import CellSpace, EdgeSpace

_SHORT = {
    "skip": "skip_connect",
    "max": "max_pool_3x3",
    "avg": "avg_pool_3x3",
    "sep3": "sep_conv_3x3",
    "dil3": "dil_conv_3x3",
    "dil5": "dil_conv_5x5",
}
# One pair per edge, a line per node.
_S1 = {
    "normal": """
        skip,dil3 skip,dil5
        skip,dil5 skip,sep3 skip,dil3
        max,skip  skip,sep3 skip,sep3 skip,dil3
        skip,sep3 max,skip  skip,dil3 dil3,dil5 dil3,dil5
    """,
    "reduce": """
        max,avg max,dil3
        max,avg max,avg  skip,dil5
        max,avg max,sep3 skip,dil3 skip,dil5
        max,avg max,avg  skip,dil5 skip,dil5 skip,dil5
    """,
}


def _s1_cell(name: str) -> CellSpace:
    lines = _S1[name].strip().splitlines()
    edges = (
        EdgeSpace(source, node, tuple(_SHORT[short] for short in pair.split(",")))
        for node, line in enumerate(lines)
        for source, pair in enumerate(line.split())
    )
    return CellSpace(name, 2, tuple(edges))


S1 = spaces.register(SearchSpace("s1", (_s1_cell("normal"), _s1_cell("reduce"))))
S2 = spaces.register(SearchSpace.darts("s2", ("skip_connect", "sep_conv_3x3")))
S3 = spaces.register(SearchSpace.darts("s3", ("none", "skip_connect", "sep_conv_3x3")))
S4 = spaces.register(SearchSpace.darts("s4", ("noise", "sep_conv_3x3")))
