"""Genotypes as people have them: in logs, in source files, from other tools."""

from __future__ import annotations

import json

import pytest

from darts_ray.errors import ConfigError
from darts_ray.space import Genotype, arch_string, zoo

V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),"
    " ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0),"
    " ('dil_conv_3x3', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0),"
    " ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0),"
    " ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],"
    " reduce_concat=range(2, 6))"
)
RECURRENT = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
ARCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


@pytest.mark.parametrize(
    "text",
    [
        V2,
        f"genotype = {V2}",
        f"DARTS_V2 = {V2}\n",
        f"2026-11-26 10:00:00,123 - INFO - genotype = {V2}",
        f"11/26 10:00:00 AM genotype = {V2} (epoch 49)",
        f'"{V2}"',
        f"`{V2}`",
        f"\ufeff{V2}",
        V2.replace(", ('", ",\n    ('"),
        V2.replace("range(2, 6)", "[2, 3, 4, 5]"),
        V2.replace("range(2, 6)", "list(range(2, 6))"),
        V2.replace("'", '"'),
        V2.replace("'", "\\'"),
        f"{V2}\n{V2}",
        "Genotype("
        + V2.removeprefix("Genotype(")
        .replace("normal=", "")
        .replace("normal_concat=", "")
        .replace("reduce=", "")
        .replace("reduce_concat=", ""),
    ],
)
def test_the_original_code_s_print_is_read_wherever_it_stands(text: str) -> None:
    assert Genotype.parse(text) == zoo["DARTS_V2"]


def test_nested_lists_of_pt_darts() -> None:
    def nested(name: str) -> str:
        return str([[tuple(edge) for edge in node] for node in zoo["DARTS_V2"].cells[name]])

    text = (
        f"Genotype(normal={nested('normal')}, normal_concat=range(2, 6),"
        f" reduce={nested('reduce')}, reduce_concat=range(2, 6))"
    )
    assert Genotype.parse(text) == zoo["DARTS_V2"]


def test_sparse_cells_of_fair_darts() -> None:
    genotype = Genotype.parse(
        "FairDARTS_a = Genotype(normal=[('sep_conv_3x3', 2, 0), ('sep_conv_5x5', 2, 1),"
        " ('max_pool_3x3', 4, 0), ('sep_conv_3x3', 5, 0)], normal_concat=range(2, 6),"
        " reduce=[('max_pool_3x3', 2, 0), ('avg_pool_3x3', 3, 1)], reduce_concat=range(2, 6))"
    )
    assert [len(node) for node in genotype.cells["normal"]] == [2, 0, 1, 1]
    assert genotype.cells["normal"][0] == (("sep_conv_3x3", 0), ("sep_conv_5x5", 1))
    assert [len(node) for node in genotype.cells["reduce"]] == [1, 1, 0, 0]
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_recurrent_cells() -> None:
    genotype = Genotype.parse(f"INFO genotype = {RECURRENT}")
    assert genotype.recurrent == (("tanh", 0), ("relu", 1))


def test_nni_s_darts_export() -> None:
    values: dict[str, object] = {}
    for cell in ("normal", "reduce"):
        for node in range(2, 6):
            kept = (0, node - 1)
            for source in range(node):
                name = f"{cell}_n{node}_p{source}"
                values[name] = ("sepconv3x3" if source else 2) if source in kept else []
            values[f"{cell}_n{node}_switch"] = [f"{cell}_n{node}_p{source}" for source in kept]
    genotype = Genotype.parse(json.dumps(values))
    assert genotype.cells["normal"][2] == (("skip_connect", 0), ("sep_conv_3x3", 3))
    del values["normal_n4_switch"]
    values |= {"normal_n4_p1": "maxpool", "normal_n4_p2": "maxpool"}
    with pytest.raises(ConfigError, match="no normal_n4_switch"):
        Genotype.parse(json.dumps(values))


def test_nni_s_model_space_export() -> None:
    values = {}
    for cell in ("normal", "reduce"):
        for node in range(2, 6):
            for edge in range(2):
                values[f"{cell}/op_{node}_{edge}"] = "sep_conv_3x3"
                values[f"{cell}/input_{node}_{edge}"] = [edge] if cell == "normal" else edge
    genotype = Genotype.parse(json.dumps(values))
    assert genotype.cells["reduce"][3] == (("sep_conv_3x3", 0), ("sep_conv_3x3", 1))
    values["normal/input_2_0"] = [0, 1]
    with pytest.raises(ConfigError, match="normal/input_2_0 is"):
        Genotype.parse(json.dumps(values))


def test_architecture_strings() -> None:
    genotype = Genotype.parse(ARCH)
    assert arch_string(genotype) == ARCH
    assert Genotype.parse(f"[epoch 99] best arch: {ARCH}") == genotype
    assert genotype.skeleton == "nasbench201"
    with pytest.raises(ConfigError, match="skeleton 'darts'"):
        arch_string(zoo["DARTS_V2"])


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is not understood"),
        ("skip connections", "is not understood"),
        (V2[:-20], "is cut"),
        (V2.replace("range(2, 6)", "range(2, n)"), "no literal"),
        (V2.replace("'sep_conv_3x3', 0", "'sep_conv_3x3', __import__('os')"), "no literal"),
        (V2 + RECURRENT, "2 different genotypes"),
        (V2.replace("normal_concat=range(2, 6), ", ""), "missing: normal_concat"),
        (V2.replace("reduce_concat", "shrink_concat"), "not understood: shrink_concat"),
        # three edges are one node and a half, and not two nodes of another cell
        (V2.replace(", ('sep_conv_3x3', 1)", "", 1), "needs 2"),
        (ARCH[:-10], "must look like"),
        (ARCH.replace("nor_conv_3x3~1", "nor_conv_3x3~2"), "reads"),
        (ARCH.replace("~0|+", "|+", 1), "primitive~source"),
        (f"{ARCH} {ARCH.replace('none', 'skip_connect')}", "2 different"),
        (
            "Genotype(normal=[('a', 1, 2)], normal_concat=[2], reduce=[], reduce_concat=[2])",
            "triple",
        ),
        ('{"normal_n2_p0": {"a": 1}}', "must name one operation"),
    ],
)
def test_what_is_not_understood_is_said(text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        Genotype.parse(text)
