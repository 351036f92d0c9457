import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from darts_ray.space import ConvGenotype, zoo
from darts_ray.study.report.cell_drawing import draw_cell, label
from darts_ray.study.report.cell_layout import layout_cell

CELLS = [(name, cell) for name, genotype in zoo.items() for cell in genotype.cells]


@pytest.mark.parametrize(("name", "cell"), CELLS)
def test_every_edge_is_drawn_and_nothing_overlaps(name: str, cell: str) -> None:
    genotype = zoo[name]
    layout = layout_cell(genotype, cell)
    for column in layout.columns:
        for lower, upper in pairwise(column):
            assert upper.y - lower.y >= (upper.height + lower.height) / 2
    nodes = genotype.cells[cell]
    drawn = {
        item.name: item.primitives
        for column in layout.columns
        for item in column
        if item.primitives
    }
    assert len(drawn) == len(nodes)
    for node, edges in enumerate(nodes):
        is_conv = isinstance(genotype, ConvGenotype)
        names = {0: "c_{k-2}", 1: "c_{k-1}"} if is_conv else {0: "0"}
        shift = 2 if is_conv else 0
        wanted = [
            (e.primitive, names.get(e.predecessor, str(e.predecessor - shift))) for e in edges
        ]
        assert sorted(drawn[str(node if is_conv else node + 1)]) == sorted(wanted)
    # a line never spans more than one gap: it passes each column in a lane of its own
    assert all(link.end.column == link.start.column + 1 for link in layout.links)


def test_primitives_stand_where_their_edges_arrive() -> None:
    layout = layout_cell(zoo["DARTS_V2"], "reduce")
    for item in (item for column in layout.columns for item in column if item.primitives):
        arriving = sorted(
            (link for link in layout.links if link.end is item), key=lambda link: link.row or 0
        )
        assert [source for _, source in item.primitives] == [link.start.name for link in arriving]
        assert [link.start.y for link in arriving] == sorted(link.start.y for link in arriving)


def test_the_same_cell_gives_the_same_picture() -> None:
    picture = draw_cell(zoo["DARTS_V1"], "normal")
    assert picture == draw_cell(zoo["DARTS_V1"], "normal")
    root = ElementTree.fromstring(picture)
    assert root.tag.endswith("svg")
    assert draw_cell(zoo["ENAS"], "recurrent", "png").startswith(b"\x89PNG")
    with pytest.raises(KeyError):
        draw_cell(zoo["ENAS"], "normal")


def test_labels() -> None:
    assert label("sep_conv_3x3") == "sep conv 3×3"  # noqa: RUF001
    assert label("my_max") == "my max"
