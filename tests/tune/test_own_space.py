"""Spaces of a user's own in the processes of a Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from darts_ray.config import load_config
from darts_ray.space import Genotype
from darts_ray.study.plan.settings import search_trials
from darts_ray.tune import SearchTrainable, run_trials

STUDY = """
name: own
data: {source: digits, max_train: 64, max_test: 32}
seeds: [0]
search:
  space: {grid: [{name: own-for-a-test, imports: [tests.tune.own_space]}, LISTED]}
  method: {name: gdas}
  network: {channels: 2, layers: 3}
  epochs: 1
  max_steps: 1
  batch_size: 16
resources: {cpus_per_trial: 1}
"""
LISTED = """{name: listed, output: last, keep: 1, imports: [tests.tune.own_space], edges: {
  normal: [{source: 0, node: 0, primitives: [halved_for_a_test, skip_connect]}],
  reduce: [{source: 1, node: 0, primitives: [skip_connect, max_pool_3x3, halved_for_a_test]}]}}"""


@pytest.mark.usefixtures("local_ray")
def test_registered_and_listed_spaces_are_searched_in_ray_workers(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY.replace("LISTED", LISTED))
    study = load_config(file)
    trials = search_trials(study)
    outcomes = run_trials(
        "search", SearchTrainable, trials, study, str(tmp_path / "study"), resume=False
    )
    assert [outcome.status for outcome in outcomes] == ["done", "done"]
    registered, listed = (Genotype.from_json(o.history[-1]["genotype"]) for o in outcomes)
    assert [len(node) for node in registered.cells["normal"]] == [1, 1]
    assert registered.output == "mean"
    assert [len(node) for node in listed.cells["reduce"]] == [1]
    assert listed.output == "last"
