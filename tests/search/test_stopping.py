"""RobustDARTS's rule: on published curves, by hand, and inside a search."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from darts_ray.config.robustness import EarlyStopConfig
from darts_ray.search import SearchRun
from darts_ray.search import evaluating as measuring
from darts_ray.search.stopping import stop_epoch
from tests.search.identical import assert_identical
from tests.search.small import image_config, image_data

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "robustdarts" / "eigenvalues.json"
FAST = {"window": 1, "delta": 1, "first": 0, "every": 1}
"""Compares each measurement with the one before."""
CPU = torch.device("cpu")


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published curves are not at hand")
def test_the_rule_stops_published_searches_where_their_authors_did() -> None:
    runs = json.loads(PUBLISHED.read_text())["runs"]
    assert runs
    found = [stop_epoch(run["eigenvalues"]) for run in runs]
    assert found == [run["stop"] for run in runs]
    assert any(epoch is None for epoch in found)


def test_the_rule_by_hand() -> None:
    # la_i is 1 up to the eleventh measurement (i = 10); at i = 11 (epoch 22) the mean of the last
    # five, (4 * 1 + 2.6) / 5 = 1.32, exceeds 1.3 * 1: back to epoch 22 - 12 = 10
    curve = [1.0] * 11 + [2.6]
    assert stop_epoch([*curve, 1.0]) == 10
    assert stop_epoch(curve) is None  # the last epoch is not judged
    assert stop_epoch([*curve[:-1], 2.5, 1.0]) is None  # 6.5 / 5 = 1.3 is not above
    # a growth before epoch 22 leads to an epoch before 10 and is ignored
    assert stop_epoch([1.0] * 2 + [9.0] * 20) is None
    assert stop_epoch([1.0, 2.0, 1.0], EarlyStopConfig(**FAST)) == 0


@pytest.fixture
def curve(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Eigenvalues to be measured one after the other."""
    values: list[float] = []
    monkeypatch.setattr(measuring, "signed_eigenvalue", lambda *_, **__: values.pop(0))
    return values


def make(**rule: Any) -> SearchRun:
    stop = {"rule": "eigenvalue", **FAST, **rule}
    config = image_config(early_stop=stop, epochs=6, max_steps=2, optim={"alpha_lr": 0.5})
    return SearchRun(config, image_data(), CPU)


def test_a_stopped_search_returns_the_recorded_genotype(curve: list[float]) -> None:
    curve += [1.0, 1.0, 1.0, 2.0]
    run = make()
    rows = []
    while not run.finished:
        rows.append(run.run_epoch())
    assert [row["signed_eigenvalue"] for row in rows] == [1.0, 1.0, 1.0, 2.0]
    assert rows[-1]["stopped_at"] == 3
    assert rows[-1]["genotype"] == rows[2]["genotype"]
    assert run.genotype().to_json() == rows[2]["genotype"]
    resumed = make()
    resumed.load_state_dict(run.state_dict())
    assert resumed.finished
    assert resumed.genotype() == run.genotype()


def test_adapting_goes_back_with_more_weight_decay(curve: list[float]) -> None:
    curve += [1.0, 1.0, 1.0, 2.0, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0]
    run = make(action="adapt")
    states = []
    rows = []
    while not run.finished:
        rows.append(run.run_epoch())
        states.append(run.state_dict())
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 4, 5, 5, 6]
    # 3e-4 at first, ten times as much after the first growth; .03 is the most
    assert rows[3]["rolled_back_to"] == 3
    assert rows[3]["weight_decay"] == pytest.approx(3e-3)
    assert rows[5]["rolled_back_to"] == 4
    assert rows[5]["weight_decay"] == pytest.approx(0.03)
    for key in ("supernet", "step"):
        assert_identical(states[3][key], states[2][key])


def test_a_resumed_search_still_knows_what_it_may_return_to(curve: list[float]) -> None:
    curve += [1.0, 1.0, 2.0, 1.0, 1.0, 1.0] * 2
    whole = make(action="adapt")
    first = make(action="adapt")
    for _ in range(2):
        first.run_epoch()
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make(action="adapt")
    second.load_state_dict(torch.load(file, weights_only=True))
    second.run_epoch()
    curve[:] = [1.0, 1.0, 2.0]
    for _ in range(3):
        whole.run_epoch()
    assert_identical(whole.state_dict(), second.state_dict())


def test_the_signed_eigenvalue_is_measured_where_the_rule_asks() -> None:
    config = image_config(early_stop="eigenvalue", epochs=4, max_steps=1)
    run = SearchRun(config, image_data(), CPU)
    rows = [run.run_epoch() for _ in range(4)]
    # every second epoch and the last one
    assert ["signed_eigenvalue" in row for row in rows] == [True, False, True, True]
    plain = SearchRun(image_config(epochs=4, max_steps=1), image_data(), CPU)
    for row in rows:  # measuring changes nothing
        assert plain.run_epoch()["train_loss"] == row["train_loss"]
