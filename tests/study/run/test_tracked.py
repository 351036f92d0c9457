"""What a study leaves in a real SQLite store when its queue is lost with the driver's machine."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import mlflow.data
import pytest

from darts_ray.export import ModelMetadata, load_proto
from darts_ray.study import load_study, resume_study, run_study
from darts_ray.study.files.exported import Exported, Int8File
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import RetrainEntry
from darts_ray.study.files.study import read_study_file
from darts_ray.study.run.registering import register_files
from darts_ray.study.run.tracked.opening import TRACKING_FOLDER
from darts_ray.study.run.tracked.results import study_metrics
from darts_ray.study.run.tracked.writing import settled
from darts_ray.tracking import Registration, StudyTracker, sqlite_uri
from tests.study.fabricated import finished_image_study
from tests.study.run.conftest import FakeRay, tiny
from tests.tracking.test_tracker import small_model

pytestmark = [
    # mlflow's SQL store uses a loader strategy that newer SQLAlchemy deprecates
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_a_lost_queue_costs_neither_the_identity_nor_the_epochs(
    tmp_path: Path, ray: FakeRay
) -> None:
    # the stand-in for Ray calls no callback, so no epoch reaches the first queue
    folder = run_study(tiny(tmp_path, tracking={}), stages=("search",)).folder
    client = mlflow.MlflowClient(sqlite_uri(tmp_path))
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (study,) = client.search_runs([experiment.experiment_id])
    _, provenance = read_study_file(StudyFolder(folder))
    assert study.data.tags["darts.study_id"] == provenance["study_id"]

    shutil.rmtree(Path(folder, TRACKING_FOLDER))
    resume_study(folder, stages=("search", "report"))
    runs = {
        run.data.tags.get("darts.trial_id"): run
        for run in client.search_runs([experiment.experiment_id])
    }
    assert runs[None].info.run_id == study.info.run_id
    results = load_study(folder).results()
    assert set(runs) == {None, *("search/" + results.trial)}
    for trial, rows in results.groupby("trial"):
        run = runs[f"search/{trial}"]
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "validation_accuracy")
        measured = [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)]
        assert measured == list(zip(rows.epoch, rows.validation_accuracy, strict=True))


@pytest.mark.parametrize(("score", "champion"), [(0.8, "1"), (0.95, "2")])
def test_a_file_that_waited_finds_its_version_and_the_better_model_stays_champion(
    tmp_path: Path, score: float, champion: str
) -> None:
    uri = sqlite_uri(tmp_path)
    how = Registration("cells", rule="better", score_name="select accuracy", data="digits")
    tracker = StudyTracker(uri, "e", "s", tmp_path / "queue", load_onnx=load_proto)
    tracker.start_study({})
    folder = StudyFolder(str(tmp_path / "study"))
    for version, (factor, own) in enumerate(((2.0, 0.9), (3.0, score)), start=1):
        model = small_model(tmp_path / "best.onnx", factor)
        how = replace(how, score=own)
        assert tracker.register_onnx(model, "cells", registration=how) == str(version)
    folder.write_file("best.onnx", tmp_path / "best.onnx")
    waiting = Exported(
        "best.onnx", "t", 0, 20, 1e-4, 1e-6, (1,), "images", 1, registered="cells (waiting)"
    )
    config = tiny(tmp_path, tracking={"registered_model": "cells"})
    assert settled(tracker, folder, config, waiting).registered == "cells, version 2"
    assert tracker.close()
    client = mlflow.MlflowClient(uri)
    assert str(client.get_model_version_by_alias("cells", "champion").version) == champion


def test_both_files_wait_while_the_registry_is_away_and_resume_registers_them(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = ModelMetadata("{}", ("a", "b", "c"))

    def export(
        folder: StudyFolder, entry: RetrainEntry, *args: Any, place: Path = tmp_path
    ) -> Exported:
        _, _, tracker, registration = args
        for factor, name in ((2.0, "best.onnx"), (3.0, "best-int8.onnx")):
            folder.write_file(name, small_model(place / name, factor))
        int8 = Int8File(file="best-int8.onnx")
        exported = Exported(
            "best.onnx", entry.trial, 0, 20, 1e-4, 1e-6, (1,), "images", 1, int8=int8
        )
        return register_files(tracker, place, registration, metadata, exported)

    monkeypatch.setattr("darts_ray.study.run.stages.export_network", export)
    # the stand-in for Ray leaves no weights
    monkeypatch.setattr("darts_ray.study.run.stages.log_weights", lambda *args: None)
    away = {"uri": "http://127.0.0.1:9"}  # nobody listens there
    retrain = {**tiny(tmp_path).model_dump()["retrain"], "genotype": "DARTS_V1"}
    config = tiny(tmp_path, search=None, select=None, retrain=retrain, tracking=away)
    folder = run_study(config).folder

    def registered() -> list[str | None]:
        exported = load_study(folder).record.export
        assert exported is not None
        assert exported.int8 is not None
        return [exported.registered, exported.int8.registered]

    assert registered() == ["tiny (waiting)", "tiny (waiting)"]
    resume_study(folder, overrides=[f"tracking.uri={sqlite_uri(tmp_path)}"])
    assert registered() == ["tiny, version 1", "tiny, version 2"]
    client = mlflow.MlflowClient(sqlite_uri(tmp_path))
    for alias, version in (("champion", "1"), ("champion-int8", "2")):
        assert str(client.get_model_version_by_alias("tiny", alias).version) == version
    assert len(client.search_model_versions("name = 'tiny'")) == 2


def test_configuration_goes_before_environment_and_that_before_the_default(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere' / 'ours.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from-environment")
    run_study(tiny(tmp_path, name="a", tracking={}), stages=("search",))
    named = {"experiment": "configured"}
    run_study(tiny(tmp_path, name="b", tracking=named), stages=("search",))
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'elsewhere' / 'ours.db'}")
    for name in ("from-environment", "configured"):
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        # opens in the view for model training and not in that for generative AI
        assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert not (tmp_path / "mlflow.db").exists()


def only_run(folder: Path, name: str = "tiny") -> mlflow.entities.Run:
    client = mlflow.MlflowClient(sqlite_uri(folder))
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    (run,) = client.search_runs(
        [experiment.experiment_id],
        "tags.`darts.dataset` = 'digits' and tags.`darts.method` = 'darts'",
    )
    return run


def test_a_studys_run_has_results_origin_data_and_what_the_machine_did(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "c0ffee" * 6 + "c0ff"
    monkeypatch.setattr("darts_ray.study.run.tracked.origin._commit", lambda: commit)
    config = tiny(tmp_path, tracking={"system_metrics": True, "figures": 0})
    # the stand-in for Ray leaves no weights, which a retraining gives to its run
    folder = run_study(config, stages=("search", "select")).folder
    run = only_run(tmp_path)
    study = load_study(folder)
    expected = study_metrics(study.config, study.record, study.results())
    assert "darts/select_accuracy_mean" in expected
    assert {name: run.data.metrics[name] for name in expected} == pytest.approx(expected)
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} <= set(
        run.data.metrics
    )
    tags = run.data.tags
    assert tags["mlflow.source.type"] == "LOCAL"
    assert {"mlflow.source.name", "mlflow.user", "darts.version"} <= set(tags)
    assert "digits" in tags["mlflow.note.content"]
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == "digits"
    assert study.provenance["data_fingerprint"].startswith(given.dataset.digest)
    assert mlflow.data.get_source(given).to_dict() == {"tags": {"darts.dataset": "digits"}}

    client = mlflow.MlflowClient(sqlite_uri(tmp_path))
    client.set_tag(run.info.run_id, "mlflow.note.content", "mine")
    resume_study(folder, stages=("select", "report"))
    again = only_run(tmp_path)
    assert again.info.run_id == run.info.run_id
    assert again.data.tags["mlflow.note.content"] == "mine"
    assert len(again.inputs.dataset_inputs) == 1


def test_results_are_those_of_the_tables(tmp_path: Path) -> None:
    study = load_study(finished_image_study(tmp_path))
    metrics = study_metrics(study.config, study.record, study.results())
    # select scores 0.9 + 0.01 i + 0.002 s of cells 2, 3 and 4 (seeds 0 and 1 averaged)
    assert metrics["order:unrolled/select_accuracy_mean"] == pytest.approx(0.931)
    assert metrics["order:unrolled/select_accuracy_sd"] == pytest.approx(0.01)
    assert metrics["order:unrolled/select_accuracy_best"] == pytest.approx(0.941)
    assert (metrics["order:first/seeds"], metrics["order:unrolled/seeds"]) == (2, 3)
    assert metrics["test_accuracy_mean"] == pytest.approx(0.975)
    assert metrics["test_accuracy_sd"] == pytest.approx(0.00707107)
    assert metrics["num_failed"] == 1
    assert metrics["onnx_max_difference"] == 2.4e-6
    # 5 searches of 8 epochs, 1.5 s each, on one CPU
    assert metrics["cpu_hours"] == pytest.approx(5 * 8 * 1.5 / 3600)
    assert metrics["gpu_hours"] == 0


def test_figures_of_all_searches_on_demand_and_each_once(tmp_path: Path, ray: FakeRay) -> None:
    def pictures() -> dict[str, int]:
        client = mlflow.MlflowClient(sqlite_uri(tmp_path))
        experiment = client.get_experiment_by_name("tiny")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id])
        return {
            run.data.tags["darts.trial_id"]: len(client.list_artifacts(run.info.run_id))
            for run in runs
            if "darts.trial_id" in run.data.tags
        }

    folder = run_study(tiny(tmp_path, tracking={"figures": 1}), stages=("search",)).folder
    shutil.rmtree(Path(folder, TRACKING_FOLDER))  # makes the runs of trials, which no Ray made
    resume_study(folder, overrides=("tracking.figures=1",), stages=("search", "report"))
    assert sorted(pictures().values()) == [0, 4]
    drawn: list[str] = []

    def draw(genotype: object, cell: str) -> str:
        drawn.append(cell)
        return "<svg/>"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts_ray.study.run.tracked.writing.draw_cell", draw)
        for _ in range(2):
            resume_study(folder, overrides=("tracking.figures=all",), stages=("search", "report"))
    assert sorted(pictures().values()) == [4, 4]
    assert sorted(drawn) == ["normal", "reduce"]
