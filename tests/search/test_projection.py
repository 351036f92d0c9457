"""Perturbation-based selection, step by step against its description."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from darts_ray.nn import Mixing
from darts_ray.search import SearchRun
from darts_ray.search.parts import Progress
from darts_ray.search.step.relaxing import relax
from darts_ray.space import Genotype
from tests.search.small import SPACE, image_config, image_data

CPU = torch.device("cpu")


def make(nodes: int = 2, **method: Any) -> SearchRun:
    config = image_config(
        space={**SPACE, "nodes": nodes},
        method={"name": "darts_pt", "interval": 1, **method},
        epochs=1,
        max_steps=1,
        optim={},
    )
    return SearchRun(config, image_data(num=24), CPU)


def test_phases_and_rounds() -> None:
    run = make()
    # 5 edges and one node with three predecessors: six rounds, every epoch one
    assert run.epochs == 1 + 6
    rows = [run.run_epoch() for _ in range(7)]
    assert "projection" not in rows[0]
    assert [row["weight_lr"] for row in rows[1:]] == [0.0025] * 6
    for row in rows[1:6]:
        assert {decision["cell"] for decision in row["projection"]} == {"normal", "reduce"}
        for decision in row["projection"]:
            scores = decision["without"]
            assert scores[decision["chosen"]] == min(scores.values())
            assert "none" not in scores
    for decision in rows[6]["projection"]:
        (scores,), (dropped,) = decision["without"], decision["dropped"]
        assert set(scores) == {"2", "3", "4"}
        assert scores[str(dropped)] == max(scores.values())
    # the genotype is what was decided
    genotype = run.genotype()
    for name, mask in run.supernet.mask.items():
        kept = {
            (edge.node, edge.source): edge.primitives[int(mask[row].nonzero())]
            for row, edge in enumerate(run.supernet.space.cell(name).edges)
            if mask[row].any()
        }
        assert {
            (node, source): primitive
            for node, edges in enumerate(genotype.cells[name])
            for primitive, source in edges
        } == kept


def test_the_constants_of_the_paper() -> None:
    config = image_config(space="darts", method="darts_pt", epochs=50)
    # 14 edges and 3 nodes with more than two predecessors, five epochs from one to the next
    assert config.total_epochs == 50 + 5 * (14 + 3 - 1) + 1 == 50 + 81
    config = image_config(space="nasbench201", method="darts_pt", epochs=100)
    assert config.total_epochs == 100 + 25


def test_a_score_is_that_of_the_supernet_without_the_operation() -> None:
    run = make()
    seen: list[Mixing] = []
    score = run.batches.score

    def watched(supernet: Any, batches: Any, mixing: Any) -> float:
        assert supernet.training
        seen.append(mixing)
        return score(supernet, batches, mixing)

    run.batches.score = watched  # type: ignore[method-assign]
    run.run_epoch()
    p = run.supernet.mixing().weights["normal"].detach()
    run.begin_epoch()
    # three operations besides `none`, on one edge of each kind
    assert len(seen) == 6
    for mixing in seen[:3]:
        changed = (mixing.weights["normal"] != p).nonzero()
        assert len(changed) == 1
        assert mixing.weights["normal"][tuple(changed[0])] == 0  # the others are as they were
        torch.testing.assert_close(
            mixing.weights["reduce"], run.supernet.mixing().weights["reduce"]
        )


@pytest.mark.parametrize("base", ["darts", "pc_darts", "gdas"])
def test_fixed_alphas_and_magnitude_on_any_base(base: str) -> None:
    values = {"name": base, **({"channels": 2} if base == "pc_darts" else {})}
    run = make(1, base=values, fixed_alpha=True, criterion="magnitude")
    before = {name: alpha.clone() for name, alpha in run.supernet.alphas.items()}
    rows = []
    while not run.finished:
        rows.append(run.run_epoch())
        assert "valid_loss" not in rows[-1]
    for name, alpha in run.supernet.alphas.items():
        assert torch.equal(alpha, before[name])
    # without training, what is kept is what was strongest at the start
    first, last = (Genotype.from_json(row["genotype"]).cells for row in (rows[0], rows[-1]))
    for name, nodes in first.items():
        assert [set(edges) for edges in nodes] == [set(edges) for edges in last[name]]


def test_a_decided_operation_runs_whatever_its_base_draws() -> None:
    run = make(2, base="gdas")
    for name, mask in run.supernet.mask.items():
        columns = run.supernet.space.cell(name).edges[0].primitives
        mask[0] = torch.tensor([column == "sep_conv_3x3" for column in columns])
        mask[1] = False  # this edge is gone
    kept = SPACE["primitives"].index("sep_conv_3x3")
    for _ in range(20):
        mixing = relax(run.method, run.supernet, "weight", Progress(0, 1))
        assert mixing.active is not None
        for name, active in mixing.active.items():
            assert active[0] == (kept,)
            assert active[1] == ()
            assert mixing.weights[name][0].tolist() == [float(i == kept) for i in range(4)]
            assert all(len(columns) == 1 for columns in active[2:])


@pytest.mark.parametrize("hvp", ["finite_difference", "exact"])
@pytest.mark.parametrize("order", ["first", "unrolled"])
def test_alphas_have_no_gradient_where_nothing_runs(order: str, hvp: str) -> None:
    config = image_config(method="gdas", max_steps=1, optim={"order": order, "hvp": hvp})
    run = SearchRun(config, image_data(num=24), CPU)
    with torch.no_grad():
        for alpha in run.supernet.alphas.values():
            alpha[:, 0] = 1000.0  # every edge draws `none`
    run.run_epoch()
    assert all((alpha[:, 1:].abs() < 1).all() for alpha in run.supernet.alphas.values())
