"""Genotypes survive JSON and the original code's text; nothing else is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_ray.errors import ConfigError
from darts_ray.space import ConvGenotype, Edge, Genotype, RecurrentGenotype, spaces, zoo

# As the original code prints them (cnn/genotypes.py and rnn/genotypes.py of the paper's code).
ORIGINAL_DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),"
    " ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0),"
    " ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0),"
    " ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0),"
    " ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],"
    " reduce_concat=range(2, 6))"
)
ORIGINAL_RECURRENT_V2 = (
    "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1),"
    " ('tanh', 2), ('sigmoid', 5), ('tanh', 3), ('relu', 5)], concat=range(1, 9))"
)


@st.composite
def conv_genotypes(draw: st.DrawFn) -> ConvGenotype:
    edges_per_node = draw(st.integers(1, 3))
    cells = []
    for _ in range(2):
        nodes = draw(st.integers(1, 5))
        edges = [
            Edge(
                draw(st.sampled_from(spaces["darts"].cell("normal").primitives)),
                draw(st.integers(0, node + 1)),
            )
            for node in range(nodes)
            for _ in range(min(edges_per_node, node + 2))
        ]
        states = draw(st.lists(st.integers(0, nodes + 1), min_size=1, max_size=nodes))
        cells.append((tuple(edges), tuple(states)))
    (normal, normal_concat), (reduce, reduce_concat) = cells
    return ConvGenotype(normal, normal_concat, reduce, reduce_concat, edges_per_node)


@given(conv_genotypes())
def test_json_round_trip(genotype: ConvGenotype) -> None:
    assert Genotype.from_json(genotype.to_json()) == genotype


@pytest.mark.parametrize("name", list(zoo))
def test_zoo_round_trip(name: str) -> None:
    assert Genotype.parse(zoo[name].to_json()) == zoo[name]


def test_original_text_is_read() -> None:
    assert Genotype.parse(ORIGINAL_DARTS_V2) == zoo["DARTS_V2"]
    assert Genotype.parse(ORIGINAL_RECURRENT_V2) == zoo["RECURRENT_DARTS_V2"]


def test_edges_compare_with_plain_pairs() -> None:
    genotype = zoo["DARTS_V2"]
    assert isinstance(genotype, ConvGenotype)
    assert list(genotype.normal[:2]) == [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)]


def test_cells_group_edges_by_node() -> None:
    genotype = RecurrentGenotype((Edge("tanh", 0), Edge("relu", 1)), (1, 2))
    assert genotype.cells == {"recurrent": ((("tanh", 0),), (("relu", 1),))}
    three = ConvGenotype(
        # node 0 has two predecessors only, so it keeps two of the three edges
        [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)], [2, 3], [("a", 0), ("a", 1)], [2], 3
    )  # fmt: skip
    assert [len(node) for node in three.cells["normal"]] == [2, 3]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("__import__('os').system('true')", "is not understood"),
        ("Genotype(normal=__import__('os').getcwd())", "no literal"),
        ("Genotype(recurrent=[('tanh', 0)], concat=range(10**9))", "no literal"),
        ("Genotype(normal=[('skip_connect', 5)]", "is cut"),
        ("Genotype(recurrent=[('tanh', 1)], concat=[1])", "may read from 0 to 0"),
        ("Genotype(recurrent=[('tanh', 0)], concat=[7])", "states from 0 to 1"),
        ("Genotype(recurrent=[('tanh', 0)])", "concat"),
        ('{"kind": "conv"', "not valid JSON"),
        ('{"kind": "other"}', "'conv' or 'recurrent'"),
        ('{"kind": "recurrent", "recurrent": [["tanh"]], "concat": [1]}', "must be a pair"),
    ],
)
def test_bad_text_is_one_clear_error(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        Genotype.parse(text)
