"""What each method derives from given alphas, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from darts_ray.config.methods import METHOD_CONFIGS
from darts_ray.errors import ConfigError
from darts_ray.search import methods
from darts_ray.search.deriving.by_strength import ByStrength
from darts_ray.space import Genotype, SearchSpace
from darts_ray.space.topology import CellSpace, EdgeSpace

NAMES = ["none", "skip_connect", "sep_conv_3x3"]
SPACE = SearchSpace.darts("small", NAMES, nodes=2)
ODD = -20.0
"""An alpha that wins nowhere."""


def derived(
    method: Any, rows: list[list[float]], space: SearchSpace = SPACE, **further: list[float]
) -> tuple[Any, ...]:
    """Return the nodes of the normal cell derived from alphas of that cell."""
    sizes: dict[str, Any] = {"channels": 4, "num_classes": 2, "layers": 3, "stem_multiplier": 1}
    supernet: Any = methods.supernet(method, space=space, **sizes)
    with torch.no_grad():
        supernet.alphas["normal"].copy_(torch.tensor(rows))
        for name, values in further.items():
            supernet.alphas[name].copy_(torch.tensor(values))
    parts = methods.make(method)
    derivation = parts.derivation() if parts.derivation else ByStrength()
    run: Any = SimpleNamespace(supernet=supernet, method=parts)
    genotype: Genotype = derivation.genotype(run)
    return tuple(genotype.cells["normal"])


def by(nodes: tuple[Any, ...]) -> list[set[tuple[str, int]]]:
    return [{(op, source) for op, source in node} for node in nodes]


SKIP, SEP = "skip_connect", "sep_conv_3x3"
SOFTMAX = ["darts", "darts_minus", "sdarts", "beta_darts", "lambda_darts", "oles", "gdas"]


@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_strengths_count_what_none_takes(name: str) -> None:
    # edge 2's best alpha is the largest, but its `none` takes most of the softmax
    rows = [[ODD, 0, 1], [ODD, 1, 0], [4.0, 3.0, ODD], [0, 0, 1.0], [0, 1.0, 0]]
    assert by(derived(name, rows)) == [{(SEP, 0), (SKIP, 1)}, {(SEP, 1), (SKIP, 2)}]


def test_pc_darts_ranks_the_product_of_both_softmaxes() -> None:
    rows = [[ODD, 0, 1], [ODD, 1, 0], [ODD, 0, 2.0], [ODD, 1.1, 0], [ODD, 0, 1]]
    values = {"name": "pc_darts", "channels": 2}
    equal = derived(values, rows, beta_normal=[0.0] * 5)
    assert by(equal) == [{(SEP, 0), (SKIP, 1)}, {(SEP, 0), (SKIP, 1)}]
    # .88 * softmax(0, 1, 1)_0 = .14, the others .73 * .42: the strongest alphas lose their edge
    betas = [0, 0, 0, 1.0, 1.0]
    assert by(derived(values, rows, beta_normal=betas))[1] == {(SKIP, 1), (SEP, 2)}
    # betas of other nodes do not matter
    assert by(derived(values, rows, beta_normal=[9.0, 9.0, 0, 0, 0]))[1] == {(SEP, 0), (SKIP, 1)}


def test_drnas_ranks_the_mean_of_the_distribution() -> None:
    # c = ELU + 1: [~0, 1, 4] has a mean of .8, [~0, e^-2, 1] of .88, [~0, 1, 1] of .5; the
    # softmax of the first, .95, would be the largest
    rows = [[ODD, 0, 1], [ODD, 0, 1], [ODD, 0, 3.0], [ODD, -2, 0], [ODD, 0, 0]]
    nodes = derived("drnas", rows)
    assert nodes[1][0] == (SEP, 1)
    assert nodes[1][1] == (SEP, 0)
    strength = methods["drnas"].relaxation.strength(
        {name: torch.tensor(rows) for name in ("normal", "reduce")}, SPACE
    )["normal"]
    assert strength[2].tolist() == pytest.approx([0, 0.2, 0.8], abs=1e-6)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_fair_darts_keeps_at_most_two_edges_above_the_threshold() -> None:
    low, high, higher = logit(0.849), logit(0.851), logit(0.9)
    rows = [
        [logit(0.99), low, high],  # `none` is never derived
        [ODD, low, low],
        [ODD, high, ODD],
        [ODD, higher, ODD],
        [ODD, ODD, higher],
    ]
    assert by(derived("fair_darts", rows)) == [{(SEP, 0)}, {(SKIP, 1), (SEP, 2)}]
    rows[0] = [ODD, low, low]
    assert by(derived("fair_darts", rows)) == [set(), {(SKIP, 1), (SEP, 2)}]
    strict = {"name": "fair_darts", "threshold": 0.95}
    # nothing is strong enough: the strongest edge alone, or there would be no network
    assert by(derived(strict, rows)) == [set(), {(SKIP, 1)}]


def test_snas_keeps_every_edge_that_is_not_none() -> None:
    rows = [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.3, 0.4, 0.3], [0.1, 0.1, 0.9]]
    expected = [{(SEP, 0)}, {(SKIP, 0), (SKIP, 1), (SEP, 2)}]
    assert by(derived("snas", rows)) == expected
    with pytest.raises(ConfigError, match="found nothing but `none`"):
        derived("snas", [[1.0, 0.1, 0.1]] * 5)


def test_random_derives_what_its_untrained_alphas_say() -> None:
    rows = [[ODD, 0, 1], [ODD, 1, 0], [ODD, 0, 2.0], [ODD, 1, 0], [ODD, 0, 0.5]]
    expected = [{(SEP, 0), (SKIP, 1)}, {(SEP, 0), (SKIP, 1)}]
    assert by(derived("random", rows)) == expected == by(derived("random_ws", rows))


def ragged() -> SearchSpace:
    edges = (EdgeSpace(0, 0, tuple(NAMES)), EdgeSpace(1, 0, (SEP,)))
    return SearchSpace(
        "ragged", tuple(CellSpace(n, 2, edges, keep=1) for n in ("normal", "reduce"))
    )


@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_strengths_of_short_lists_are_zero_where_there_is_nothing(name: str) -> None:
    if name in ("darts_pt", "random", "random_ws"):
        pytest.skip("has no strength of its own")
    method = {"name": name, **({"channels": 2} if name == "pc_darts" else {})}
    alphas: dict[str, Tensor] = {
        cell: torch.tensor([[0.4, 0.7, 0.2], [0.1, 9.0, 9.0]]) for cell in ("normal", "reduce")
    }
    relaxation = methods.make(method).relaxation
    alphas |= {
        key: torch.zeros_like(values)
        for key, values in relaxation.initial(alphas, ragged()).items()
        if key not in alphas
    }
    strength = relaxation.strength(alphas, ragged())["normal"]
    assert strength.shape == (2, 3)
    assert strength[1, 1:].tolist() == [0, 0]
    assert strength[1, 0] > 0
    assert (strength[0, 1:] > 0).all()
