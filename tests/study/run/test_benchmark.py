"""The benchmark stage: true accuracies of all cells, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darts_ray.benchmarks import nasbench201
from darts_ray.config import StudyConfig
from darts_ray.errors import ConfigError
from darts_ray.study import load_study, resume_study, run_study
from darts_ray.study.report.page import render_report
from tests.study.fabricated import search_outcome
from tests.study.run.conftest import FakeRay, tiny


def benchmarked(tmp_path: Path, **changes: Any) -> StudyConfig:
    search = {**(tiny(tmp_path).search or {}), "space": "nasbench201"}
    return tiny(
        tmp_path, **{"search": search, "select": None, "retrain": None, "export": None, **changes}
    )


@pytest.fixture
def searches(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    def end(stage: str, spec: Any) -> Any:
        outcome = search_outcome(spec.name, spec.setting, spec.seed, 2, space="nasbench201")
        return type(outcome)(**{**vars(outcome), "config": spec.config})

    monkeypatch.setattr(ray, "end", end)
    return ray


def test_every_cell_and_every_epoch_is_looked_up(tmp_path: Path, searches: FakeRay) -> None:
    said: list[str] = []
    folder = run_study(benchmarked(tmp_path), on_message=said.append).folder
    study = load_study(folder)
    for entry in study.record.search:
        accuracy = nasbench201.accuracy(entry.genotype, "cifar10") / 100
        assert entry.true_accuracy == {"cifar10": pytest.approx(accuracy)}
    rows = study.results()
    rows = rows[rows["stage"] == "benchmark"]
    assert len(rows) == 2 * 2  # seeds times epochs
    last = rows[rows["epoch"] == 2].set_index("trial")["true_accuracy_cifar10"].to_dict()
    assert last == {
        e.trial: pytest.approx(e.true_accuracy["cifar10"]) for e in study.record.search
    }
    assert any("2 cells and 4 epochs looked up" in line for line in said)
    page = render_report(study)
    assert "True accuracy" in page
    assert "below the random mean" in page


def test_other_datasets_are_looked_up_without_anything_else(
    tmp_path: Path, searches: FakeRay
) -> None:
    run_study(benchmarked(tmp_path))
    more = benchmarked(tmp_path, benchmark={"datasets": ["cifar10", "imagenet16-120"]})
    folder = run_study(more, resume=True).folder
    assert searches.started == ["search"]
    for entry in load_study(folder).record.search:
        assert set(entry.true_accuracy) == {"cifar10", "imagenet16-120"}
    resume_study(folder)
    assert searches.started == ["search"]


def test_looking_up_undoes_no_training(tmp_path: Path, ray: FakeRay) -> None:
    folder = run_study(tiny(tmp_path)).folder
    record = load_study(folder).record.beginning("benchmark", 0)
    assert record.has_finished("select")
    assert record.has_finished("export")
    assert not record.has_finished("benchmark")
    assert not record.has_finished("report")


def test_the_stage_is_there_where_the_space_has_a_table(tmp_path: Path) -> None:
    assert "benchmark" in benchmarked(tmp_path).stages
    assert "benchmark" not in tiny(tmp_path).stages
    assert "benchmark" not in benchmarked(tmp_path, benchmark={"enabled": False}).stages
    for wrong in ({"enabled": True}, {"datasets": ["cifar10"]}):
        with pytest.raises((ConfigError, ValueError), match=r"benchmark: .*NAS-Bench-201"):
            tiny(tmp_path, benchmark=wrong)
