"""A real tracking server that goes away and comes back."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from darts_ray.config import ResourcesSection
from darts_ray.errors import ConfigError, TrackingError
from darts_ray.study import load_study, run_study
from darts_ray.study.plan.settings import search_trials
from darts_ray.study.run import stages
from darts_ray.tracking import StudyTracker, check_server, sqlite_uri
from darts_ray.tracking.server import resolve_uri
from darts_ray.tune import start_ray
from tests.tracking.conftest import Server
from tests.tracking.test_tracker import Reader, small_model
from tests.tune.stub import StubRun, StubTrainable, epochs_run, stub_study


def test_an_outage_in_mid_study_leaves_no_gap_and_no_duplicate(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import onnx

    check_server(server.uri)
    tracker = StudyTracker(
        server.uri, "experiment", "my-study", tmp_path / "queue", load_onnx=onnx.load
    )
    tracker.start_study({"seeds": 2})
    tracker.start_trial("search", "t0", "t0", {"xi": 0.1})
    tracker.log_epoch("t0", 1, {"train_loss": 1.0})
    assert tracker.flush()
    run_id = tracker.run_id

    server.stop()
    start = time.monotonic()
    for epoch in range(2, 52):
        tracker.log_epoch("t0", epoch, {"train_loss": 1 / epoch})
    tracker.end_trial("t0")
    tracker.start_trial("search", "t1", "t1", {"xi": 0.2})
    tracker.log_epoch("t1", 1, {"train_loss": math.nan})
    tracker.log_artifact("t1", "genotype.json", "{}")
    # The study does not wait for the server: 53 calls take milliseconds each at most.
    assert time.monotonic() - start < 5
    assert not tracker.flush()
    assert not tracker.flush()
    model = small_model(tmp_path / "best.onnx", 2.0)
    assert tracker.register_onnx(model, "cells") is None
    tracker.end_study()
    with pytest.raises(TrackingError, match=rf"{server.uri} does not answer .*mlflow server"):
        check_server(server.uri)
    # Told once, not per event.
    assert sum("does not answer" in record.message for record in caplog.records) == 1

    # The driver ends while the server is away; the study is resumed when it is back.
    assert not tracker.close()
    server.start()
    tracker = StudyTracker(
        server.uri, "experiment", "my-study", tmp_path / "queue", load_onnx=onnx.load
    )
    assert tracker.flush()
    assert tracker.run_id == run_id
    assert tracker.register_onnx(model, "cells") == "1"
    assert tracker.close()

    reader = Reader(server.uri)
    runs = reader.runs()
    assert set(runs) == {"study", "t0", "t1"}
    assert {run.info.status for run in runs.values()} == {"FINISHED", "RUNNING"}
    assert runs["t1"].info.status == "RUNNING"
    assert reader.history(runs["t0"], "train_loss") == [(e, 1 / e) for e in range(1, 52)]
    assert math.isnan(runs["t1"].data.metrics["train_loss"])
    assert reader.artifact(runs["t1"], "genotype.json") == b"{}"
    assert reader.client.get_model_version_by_alias("cells", "champion").version == "1"


@pytest.mark.slow
def test_a_server_stopped_and_started_in_mid_study_costs_nothing(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(stages, "SearchTrainable", StubTrainable)
    (tmp_path / "pause").write_text("0.5")
    hold = tmp_path / "hold"
    study = stub_study(
        tmp_path,
        epochs=12,
        output=str(tmp_path / "runs"),
        seeds=[0, 1],
        search={"batch_size": 32},
        tracking={"uri": server.uri, "experiment": "outage"},
    )

    def outage() -> None:
        while len(epochs_run(tmp_path, 0)) < 3:
            time.sleep(0.05)
        server.stop()
        while len(epochs_run(tmp_path, 0)) < 6:
            time.sleep(0.05)
        hold.touch()  # trials that end before the server is back leave the rest to a resume
        server.start()
        hold.unlink()

    thread = threading.Thread(target=outage, daemon=True)  # a study that fails must not hang
    thread.start()
    with start_ray(ResourcesSection()):
        result = run_study(study, quiet=True)
    thread.join()
    assert "MLflow does not answer" in caplog.text

    results = load_study(result.folder).results()
    trials = search_trials(study)
    reader = Reader(server.uri, "outage")
    runs = reader.runs()
    assert set(runs) == {"study", *(f"search/{trial.name}" for trial in trials)}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for seed in (0, 1):
        undisturbed = StubRun(study.search_config({}, seed), log=False)
        expected = [undisturbed.run_epoch()["validation_accuracy"] for _ in range(12)]
        rows = results[results.seed == seed]
        assert rows.validation_accuracy.tolist() == expected
        history = reader.history(runs[f"search/{trials[seed].name}"], "validation_accuracy")
        assert history == list(enumerate(expected, start=1))


def test_uris_that_mlflow_does_not_know_are_refused_before_anything_starts() -> None:
    with pytest.raises(TrackingError, match="nosuch://x does not answer"):
        check_server("nosuch://x")


def test_the_embedded_store_needs_no_server(tmp_path: Path) -> None:
    check_server(sqlite_uri(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_sqlite_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_uri("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert resolve_uri(f"sqlite:///{tmp_path}/a.db") == f"sqlite:///{tmp_path}/a.db"
    assert resolve_uri("https://server:5000") == "https://server:5000"
    assert sqlite_uri(tmp_path / "runs") == f"sqlite:///{tmp_path}/runs/mlflow.db"


def test_two_studies_may_make_the_store_at_once(tmp_path: Path) -> None:
    ask = f"""
import sys, time
from pathlib import Path
import mlflow.store.tracking.sqlalchemy_store  # takes seconds, and is not what is raced for
from darts_ray.tracking.server import open_client, sqlite_uri
folder = Path({str(tmp_path)!r})
(folder / f"ready-{{sys.argv[1]}}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.001)
print([e.name for e in open_client(sqlite_uri(folder)).search_experiments()])
"""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ask, str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    for process in both:
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        assert said.strip() == "['Default']"


@pytest.mark.parametrize("name", ["runs?", "a?b=c", "50%20", "%3f"])
def test_a_folder_that_a_uri_cannot_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"output: .*its SQLite file elsewhere"):
        sqlite_uri(tmp_path / name)


@pytest.mark.parametrize("name", ["runs #1", "100% sure"])
def test_other_folders_hold_their_file(tmp_path: Path, name: str) -> None:
    tracker = StudyTracker(sqlite_uri(tmp_path / name), "x", "study", tmp_path / "queue")
    tracker.start_study({})
    tracker.end_study("FINISHED")
    assert tracker.close()
    assert (tmp_path / name / "mlflow.db").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {name, "queue"}


def test_a_proxy_in_between_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(TrackingError, match=r"NO_PROXY=mlflow\.example\.com") as caught:
        check_server("http://mlflow.example.com")
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("http_proxy")
    with pytest.raises(TrackingError) as caught:
        check_server("http://127.0.0.1:9")
    assert "proxy" not in str(caught.value)
