"""Deriving follows section 2.4: softmaxed strength, `none` excluded, ties to the first."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from darts_ray.errors import ConfigError
from darts_ray.space import ConvGenotype, RecurrentGenotype, SearchSpace, derive, spaces

TINY = SearchSpace.darts("tiny", ("none", "skip_connect", "sep_conv_3x3"), 1, 1)


def derive_node(rows: list[list[float]], space: SearchSpace = TINY) -> ConvGenotype:
    genotype = derive({"normal": np.array(rows), "reduce": np.array(rows)}, space)
    assert isinstance(genotype, ConvGenotype)
    return genotype


def test_ranks_by_softmax_and_not_by_raw_alphas() -> None:
    # Raw best: edge 0 has 2.0, edge 1 has 1.0. Softmaxed: edge 0 gives e^2/(e^5+e^2+1) = 0.047
    # because `none` takes most of it; edge 1 gives e/(e+2) = 0.576.
    genotype = derive_node([[5.0, 2.0, 0.0], [0.0, 1.0, 0.0]])
    assert genotype.normal == (("skip_connect", 1),)


def test_ties_go_to_lower_predecessor_and_earlier_primitive() -> None:
    assert derive_node([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).normal == (("skip_connect", 0),)


def test_strongest_edge_comes_first() -> None:
    space = SearchSpace.darts("two", ("none", "skip_connect"), 1, 2)
    assert derive_node([[0.0, 1.0], [0.0, 2.0]], space).normal == (
        ("skip_connect", 1),
        ("skip_connect", 0),
    )


@given(npst.arrays(np.float64, (14, 8), elements=st.floats(-30, 30)))
def test_never_picks_none_and_keeps_two_distinct_edges(alphas: np.ndarray) -> None:
    genotype = derive({"normal": alphas, "reduce": alphas[::-1]})
    for nodes in genotype.cells.values():
        assert len(nodes) == 4
        for node in nodes:
            assert len({edge.predecessor for edge in node}) == 2
            assert all(edge.primitive != "none" for edge in node)


def test_recurrent_from_torch() -> None:
    alphas = torch.zeros(spaces["recurrent"].alpha_shapes["recurrent"])
    alphas[0, 3] = alphas[2, 1] = 1.0  # node 0: sigmoid; node 1: tanh from node 1
    genotype = derive({"recurrent": alphas}, "recurrent")
    assert isinstance(genotype, RecurrentGenotype)
    assert genotype.recurrent[:2] == (("sigmoid", 0), ("tanh", 1))
    assert genotype.concat == tuple(range(1, 9))


@pytest.mark.parametrize(
    ("alphas", "part"),
    [
        ({"normal": np.zeros((2, 3))}, "has \\['normal', 'reduce'\\]"),
        ({"normal": np.zeros((2, 4)), "reduce": np.zeros((2, 3))}, "columns"),
        ({"normal": np.full((2, 3), np.nan), "reduce": np.zeros((2, 3))}, "not finite"),
        (
            {"normal": np.zeros((4, 3)), "reduce": np.zeros((2, 3))},
            "4 edges .rows.; the space .tiny. has 2",
        ),
    ],
)
def test_misfit_is_an_error(alphas: dict[str, np.ndarray], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        derive(alphas, TINY)


def test_spaces_register_once() -> None:
    assert spaces["darts"].alpha_shapes == {"normal": (14, 8), "reduce": (14, 8)}
    assert spaces["recurrent"].alpha_shapes == {"recurrent": (36, 5)}
    with pytest.raises(ConfigError, match="already named"):
        spaces.register(SearchSpace.darts("darts", ("skip_connect",), 1, 1))
    with pytest.raises(ConfigError, match="besides 'none'"):
        SearchSpace.darts("empty", ("none",), 1, 1)


def test_the_output_may_leave_out_first_nodes() -> None:
    primitives = ("none", "skip_connect", "sep_conv_3x3")
    space = SearchSpace.darts("last", primitives, nodes=3, num_outputs=1)
    alphas = {cell: np.zeros(shape) for cell, shape in space.alpha_shapes.items()}
    genotype = derive(alphas, space)
    assert isinstance(genotype, ConvGenotype)
    assert genotype.normal_concat == genotype.reduce_concat == (4,)
    with pytest.raises(ConfigError, match="num_outputs must be from 1 to the number of nodes, 3"):
        SearchSpace.darts("more", primitives, nodes=3, num_outputs=4)
