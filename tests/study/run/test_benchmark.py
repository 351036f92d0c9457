"""The benchmark stage: true accuracies of all cells, without training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darts_ray.benchmarks import nasbench201
from darts_ray.config import StudyConfig
from darts_ray.errors import ConfigError, StudyError
from darts_ray.study import load_study, plan_study, resume_study, run_study
from darts_ray.study.plan.truth import transfers
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


def test_epochs_without_a_cell_are_not_looked_up(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of random_ws before its end; and of one that ASHA has stopped."""

    def end(stage: str, spec: Any) -> Any:
        outcome = search_outcome(spec.name, spec.setting, spec.seed, 3, space="nasbench201")
        for report in outcome.history if spec.seed == 1 else outcome.history[:-1]:
            del report["genotype"], report["num_skip"]
        return type(outcome)(**{**vars(outcome), "config": spec.config})

    monkeypatch.setattr(ray, "end", end)
    said: list[str] = []
    folder = run_study(benchmarked(tmp_path), on_message=said.append).folder
    study = load_study(folder)
    (entry,) = study.record.search
    assert set(entry.true_accuracy) == {"cifar10"}
    rows = study.results()
    assert rows[rows["stage"] == "benchmark"]["epoch"].tolist() == [3]
    assert "search: 1 were stopped before they had a cell; none counts" in said
    assert "True accuracy" in render_report(study)


@pytest.fixture
def own_table(tmp_path: Path) -> Path:
    """A complete table: the shipped one, a point lower on CIFAR-10 and without ImageNet16-120."""
    shipped = nasbench201.shipped_table()
    columns = {
        "arch": list(shipped.archs),
        "cifar10_test": shipped.accuracies("cifar10") - 1,
        "cifar100_test": shipped.accuracies("cifar100"),
    }
    place = tmp_path / "mine.parquet"
    pq.write_table(pa.table(columns).replace_schema_metadata({"source": "mine"}), place)
    return place


def test_cells_are_looked_up_in_a_table_of_ones_own(
    tmp_path: Path, own_table: Path, searches: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = benchmarked(tmp_path, benchmark={"table": "mine.parquet"})
    said: list[str] = []
    folder = run_study(config, on_message=said.append).folder
    own_table.rename(tmp_path / "elsewhere.parquet")  # what follows needs it no more
    study = load_study(folder)
    assert study.config.benchmark.table == str(own_table)
    for entry in study.record.search:
        accuracy = nasbench201.accuracy(entry.genotype) / 100 - 0.01
        assert entry.true_accuracy == {"cifar10": pytest.approx(accuracy)}
    rows = study.results()
    last = rows[(rows["stage"] == "benchmark") & (rows["epoch"] == 2)]
    assert set(last["true_accuracy_cifar10"]) <= {
        e.true_accuracy["cifar10"] for e in study.record.search
    }
    assert any(f"looked up in {own_table} (cifar10)" in line for line in said)
    page = render_report(study)
    assert "<b>93.37</b>" in page  # the optimum, a point below 94.37
    assert str(own_table) in page
    assert searches.started == ["search"]

    # back to the shipped table: looked up again, nothing is searched again
    folder = resume_study(folder, overrides=["benchmark.table=null"]).folder
    assert searches.started == ["search"]
    assert "<b>94.37</b>" in render_report(load_study(folder))
    assert not (Path(folder) / "benchmark.parquet").exists()


def test_a_kept_table_that_is_gone_is_made_again(
    tmp_path: Path, own_table: Path, searches: FakeRay
) -> None:
    folder = run_study(benchmarked(tmp_path, benchmark={"table": str(own_table)})).folder
    (Path(folder) / "benchmark.parquet").unlink()
    with pytest.raises(StudyError, match=r"benchmark\.parquet: is gone.*darts-ray resume"):
        render_report(load_study(folder))
    resume_study(folder)
    assert "93.37" in render_report(load_study(folder))
    assert searches.started == ["search"]


@pytest.mark.parametrize(
    ("spoil", "datasets", "message"),
    [
        (lambda place: place.unlink(), None, "there is no such file or folder"),
        (lambda place: place.write_text("x"), None, "is not readable as Parquet"),
        (lambda place: None, ["imagenet16-120"], "has no test accuracies on imagenet16-120"),
        (
            lambda place: pq.write_table(pq.read_table(place).slice(1), place),
            None,
            r"lacks 1 of 15625 cells, such as \|avg_pool",
        ),
    ],
)
def test_a_table_that_lacks_something_is_refused_before_anything_starts(
    tmp_path: Path,
    own_table: Path,
    searches: FakeRay,
    spoil: Callable[[Path], object],
    datasets: list[str] | None,
    message: str,
) -> None:
    spoil(own_table)
    section = {"table": str(own_table), "datasets": datasets}
    config = benchmarked(tmp_path, benchmark=section)
    for begin in (plan_study, run_study):
        with pytest.raises(ConfigError, match=r"^benchmark\.table: .*mine\.parquet.*" + message):
            begin(config)
    assert searches.started == []
    assert not (tmp_path / "tiny" / "study.yaml").exists()


def test_a_table_needs_a_searched_space_and_a_path(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, ValueError), match=r"benchmark: .*NAS-Bench-201"):
        tiny(tmp_path, benchmark={"table": "mine.parquet"})
    with pytest.raises(ValueError, match="copy the table to the machine"):
        benchmarked(tmp_path, benchmark={"table": "s3://bucket/mine.parquet"})


def test_it_is_said_that_cells_are_looked_up_on_other_data(
    tmp_path: Path, searches: FakeRay
) -> None:
    line = (
        "benchmark: cells that are searched on digits are looked up on CIFAR-10, so their true"
        " accuracies are those of a transfer"
    )
    config = benchmarked(tmp_path)
    assert transfers(config) == [line]
    assert plan_study(config).notes.count(f"Warning: {line}.") == 1
    said: list[str] = []
    folder = run_study(config, on_message=said.append).folder
    assert said.count(f"Warning: {line}.") == 1
    assert line.removeprefix("benchmark: ") in render_report(load_study(folder))
    assert transfers(tiny(tmp_path)) == []  # nothing is looked up


@pytest.mark.parametrize(
    ("source", "datasets", "others"),
    [
        ("cifar10", None, None),
        ("cifar100", None, None),
        ("cifar10", ["cifar10", "cifar100", "imagenet16-120"], "CIFAR-100 and ImageNet16-120,"),
        ("svhn", None, "CIFAR-10,"),
        ("parquet", None, "CIFAR-10, .*; where these data are CIFAR-10, say so by benchmark.data"),
        ("parquet", ["cifar10"], None),
    ],
)
def test_which_data_are_others(
    tmp_path: Path, source: str, datasets: list[str] | None, others: str | None
) -> None:
    data = {"source": source, "path": str(tmp_path)}
    lines = transfers(benchmarked(tmp_path, data=data, benchmark={"datasets": datasets}))
    assert len(lines) == (others is not None)
    if others is not None:
        assert re.search(f"searched on {source} are looked up on {others}", lines[0])
