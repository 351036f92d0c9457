"""Spaces of a user's own, from a YAML file to a derived network that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from darts_ray.config import load_config
from darts_ray.nn import ConvNetwork
from darts_ray.search import SearchRun
from darts_ray.space import Genotype
from tests.search.small import image_data

CPU = torch.device("cpu")
STUDY = """
name: own-space
data: {{source: digits}}
search:
  method: {method}
  network: {{channels: 4, layers: 3, stem_multiplier: 1}}
  epochs: 1
  max_steps: 1
  batch_size: 6
  optim: {{order: unrolled, hvp: exact}}
  augment: {{crop_padding: 1}}
  space:
{space}
"""
LISTED = """
    name: listed
    output: {output}
    keep: {keep}
    edges:
      normal: &edges
        - {{source: 0, node: 0, primitives: [skip_connect, sep_conv_3x3, dil_conv_5x5]}}
        - {{source: 1, node: 0, primitives: [max_pool_3x3]}}
        - {{source: 0, node: 1, primitives: [none, avg_pool_3x3]}}
        - {{source: 2, node: 1, primitives: [none, skip_connect, nor_conv_3x3]}}
        - {{source: 1, node: 2, primitives: [skip_connect, sep_conv_5x5]}}
        - {{source: 3, node: 2, primitives: [skip_connect, noise]}}
        - {{source: 2, node: 2, primitives: [dil_conv_3x3, skip_connect]}}
      reduce: *edges
"""
BENCHMARK = """
    name: wider-benchmark
    skeleton: nasbench201
    output: {output}
    keep: {keep}
    edges:
      cell:
        - {{source: 0, node: 0, primitives: [skip_connect, nor_conv_3x3]}}
        - {{source: 0, node: 1, primitives: [none, nor_conv_1x1, avg_pool_3x3]}}
        - {{source: 1, node: 1, primitives: [none, skip_connect]}}
        - {{source: 2, node: 2, primitives: [sep_conv_3x3, nor_conv_3x3]}}
        - {{source: 0, node: 2, primitives: [none, skip_connect, nor_conv_3x3]}}
"""


def run_of(folder: Path, space: str, method: str = "darts") -> SearchRun:
    file = folder / "study.yaml"
    file.write_text(STUDY.format(space=space, method=method))
    config = load_config(file)
    # what a trial receives is the resolved configuration, as plain values
    values = config.search_config({}, 0).model_dump(mode="json")
    return SearchRun(type(config.search_config({}, 0)).model_validate(values), image_data(), CPU)


@pytest.mark.parametrize(
    ("text", "output", "keep"),
    [
        (LISTED, "concat", "2"),
        (LISTED, "mean", "1"),
        (LISTED, "last", "3"),
        (LISTED, "concat", "null"),
        (BENCHMARK, "last", "null"),
        (BENCHMARK, "mean", "1"),
        (BENCHMARK, "last", "2"),
    ],
)
def test_a_space_from_yaml_is_searched_and_derived(
    text: str, output: str, keep: str, tmp_path: Path
) -> None:
    run = run_of(tmp_path, text.format(output=output, keep=keep))
    space = run.supernet.space
    row = run.run_epoch()
    genotype = Genotype.from_json(row["genotype"])
    most = None if keep == "null" else int(keep)
    for name, nodes in genotype.cells.items():
        cell = space.cell(name)
        for node, kept in enumerate(nodes):
            rows = cell.rows(node)
            assert len(kept) == min(most or len(rows), len(rows))
            offered = {cell.edges[r].source: cell.edges[r].primitives for r in rows}
            for primitive, source in kept:
                assert primitive in offered[source]
                assert most is None or primitive != "none"
        for shown, edge in zip(row["alphas"][name], cell.edges, strict=True):
            assert sum(shown) == pytest.approx(1)
            assert all(p == 0 for p in shown[len(edge.primitives) :])
    assert genotype.output == output
    network = ConvNetwork(
        genotype, channels=4, num_classes=3, layers=3, in_channels=1, auxiliary=False
    )
    logits = network(torch.randn(2, 1, 8, 8))
    assert logits.shape == (2, 3)
    logits.sum().backward()


@pytest.mark.parametrize("method", ["gdas", "darts_pt", "pc_darts", "random_ws", "drnas"])
def test_methods_on_a_space_of_ones_own(method: str, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "darts_pt": "{name: darts_pt, interval: 1}",
        "pc_darts": "{name: pc_darts, channels: 2}",
        "random_ws": "{name: random_ws, samples: 3, batches: 1, finalists: 1}",
    }
    run = run_of(tmp_path, LISTED.format(output="mean", keep=1), values.get(method, method))
    while not run.finished:
        row = run.run_epoch()
    genotype = Genotype.from_json(row["genotype"])
    assert all(len(kept) == 1 for nodes in genotype.cells.values() for kept in nodes)
