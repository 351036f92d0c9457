"""Which cells are retrained, and what that means for the rest of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import StudyConfig
from darts_ray.errors import ConfigError, StudyError
from darts_ray.study import load_study, resume_study, run_study
from darts_ray.study.files.entries import scores_of_searches
from darts_ray.study.files.record import cell_name
from darts_ray.study.plan.estimate import num_trials
from tests.study.run.conftest import FakeRay, tiny


def judged(tmp_path: Path, cells: Any, **changes: Any) -> StudyConfig:
    retrain = {**tiny(tmp_path).model_dump()["retrain"], "cells": cells, "seeds": [0, 1]}
    return tiny(tmp_path, retrain=retrain, **changes)


def test_each_retrains_every_distinct_cell_once_per_seed(tmp_path: Path, ray: FakeRay) -> None:
    config = judged(tmp_path, "each", seeds=[0, 1, 2])
    folder = run_study(config).folder
    record = load_study(folder).record
    cells = {cell_name(entry.genotype) for entry in record.search}
    assert len(cells) == 3
    assert {entry.cell for entry in record.retrain} == cells
    assert len(record.retrain) == num_trials(config)["retrain"] == 6
    scores = scores_of_searches(record.search, record.retrain, "test_accuracy")
    assert scores == {entry.trial: (0.9, 0.9) for entry in record.search}
    written = json.loads(Path(folder, "genotypes.json").read_text())
    for entry in written["retrain"]:
        (search,) = entry["searches"]
        assert next(s for s in written["search"] if s["trial"] == search)["cell"] == entry["cell"]


def test_identical_cells_share_their_retrainings(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ray.end

    def same_cell(stage: str, spec: Any) -> Any:
        outcome = real(stage, spec)
        if stage == "search":
            twin = real(stage, type(spec)(spec.name, spec.config, spec.setting, 0))
            outcome.history[-1]["genotype"] = twin.history[-1]["genotype"]
        return outcome

    monkeypatch.setattr(ray, "end", same_cell)
    record = load_study(run_study(judged(tmp_path, "each")).folder).record
    assert len(record.search) == 2
    assert [entry.seed for entry in record.retrain] == [0, 1]
    assert record.searches_by_cell() == {record.retrain[0].cell: list(record.search)}
    assert len(scores_of_searches(record.search, record.retrain, "test_accuracy")) == 2


def test_the_winner_is_what_is_exported_and_reported(tmp_path: Path, ray: FakeRay) -> None:
    # the other cell has the better test score, which must not matter
    ray.scores = lambda spec: 0.8
    result = run_study(judged(tmp_path, "each"))
    record = load_study(result.folder).record
    assert record.winner is not None
    own = cell_name(record.winner.genotype)
    ray.scores = lambda spec: 0.1 if own.removeprefix("cell-") in spec.name else 0.99
    result = run_study(judged(tmp_path, "each", seeds=[0, 1, 2]), resume=True)
    record = load_study(result.folder).record
    assert record.winner is not None
    assert record.export is not None
    exported = next(e for e in record.retrain if e.trial == record.export.trial)
    assert exported.cell == cell_name(record.winner.genotype)
    assert set(result.test_scores) == {0, 1}


def test_a_study_that_grew_retrains_only_the_new_cells(tmp_path: Path, ray: FakeRay) -> None:
    run_study(judged(tmp_path, "each"))
    before = [trial.name for trial in ray.trials["retrain"]]
    folder = run_study(judged(tmp_path, "each", seeds="0..3"), resume=True).folder
    after = [trial.name for trial in ray.trials["retrain"]]
    # what is finished keeps its name, under which Tune finds it and does not repeat it
    assert set(before) < set(after)
    assert len(after) == 8
    assert len(load_study(folder).record.retrain) == 8
    ray.started.clear()
    resume_study(folder)
    assert ray.started == []


def test_winner_grows_to_each_and_not_back(tmp_path: Path, ray: FakeRay) -> None:
    run_study(judged(tmp_path, "winner"))
    run_study(judged(tmp_path, {"top": 2}), resume=True)
    assert ray.started == ["search", "select", "retrain", "retrain"]
    folder = run_study(judged(tmp_path, "each"), resume=True).folder
    assert len(load_study(folder).record.retrain) == 4
    with pytest.raises(StudyError, match=r"differs in: retrain\.cells.*may gain"):
        run_study(judged(tmp_path, {"top": 1}), resume=True)


def test_top_takes_the_best_cells_and_the_winner_first(tmp_path: Path, ray: FakeRay) -> None:
    ranks: dict[str, float] = {}

    def score(spec: Any) -> float:
        return ranks.setdefault(spec.name, 0.5 + 0.1 * len(ranks))

    ray.scores = score
    config = judged(tmp_path, {"top": 2}, seeds="0..3")
    record = load_study(run_study(config).folder).record
    ordered = sorted(record.search, key=lambda entry: entry.select_score or 0, reverse=True)
    assert [e.cell for e in record.retrain[::2]] == [cell_name(e.genotype) for e in ordered[:2]]
    assert record.winner is not None
    assert record.winner.trial == ordered[0].trial


@pytest.mark.parametrize("cells", ["each", {"top": 2}])
def test_a_given_cell_has_no_others(cells: Any, tmp_path: Path) -> None:
    retrain = {**tiny(tmp_path).model_dump()["retrain"], "cells": cells, "genotype": "DARTS_V2"}
    with pytest.raises((ConfigError, ValueError), match=r"retrain\.cells"):
        tiny(tmp_path, retrain=retrain)


@pytest.mark.parametrize("cells", ["all", {"top": 0}, {"best": 3}])
def test_unknown_choices_are_refused(cells: Any, tmp_path: Path) -> None:
    retrain = {**tiny(tmp_path).model_dump()["retrain"], "cells": cells}
    with pytest.raises((ConfigError, ValueError), match="cells"):
        tiny(tmp_path, retrain=retrain)
