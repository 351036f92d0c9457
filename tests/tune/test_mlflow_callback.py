from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest

from darts_ray.tracking import StudyTracker, sqlite_uri
from darts_ray.tune import MLflowStudyCallback, run_trials
from tests.tune.stub import StubTrainable, stub_study, stub_trials

# why: mlflow's SQL store uses a loader strategy that newer SQLAlchemy deprecates
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing may be left where the driver happens to stand."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield
    assert list((tmp_path / "elsewhere").iterdir()) == []


class Recorder:
    """Takes down what a tracker is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, *args))


def trial(**config: Any) -> Any:
    return SimpleNamespace(
        trial_id="t", config=config, get_pickled_error=lambda: ValueError("boom")
    )


def test_a_restart_is_no_second_run_and_changed_values_are_told() -> None:
    recorder = Recorder()
    callback = MLflowStudyCallback(tracker=recorder)  # type: ignore[arg-type]
    one = trial(xi=1)
    callback.log_trial_start(one)
    result = {"epoch": 1, "training_iteration": 1, "train_loss": 2.0}
    callback.log_trial_result(0, one, result)
    callback.log_trial_start(one)
    one.config = {"xi": 2}
    last = {"epoch": 2, "training_iteration": 2, "genotype": "{}", "done": True}
    callback.log_trial_result(1, one, last)
    callback.log_trial_end(one)
    callback.on_experiment_end([one])
    assert recorder.calls == [
        ("start_trial", "search", "search/t", "t", {"xi": 1}),
        ("log_epoch", "search/t", 1, result),
        ("log_params", "search/t", 2, {"xi": 2}),
        ("log_epoch", "search/t", 2, last),
        ("log_artifact", "search/t", "genotype.json", "{}"),
        ("end_trial", "search/t"),
    ]


def test_failed_and_interrupted_trials_are_closed_as_such() -> None:
    recorder = Recorder()
    callback = MLflowStudyCallback(tracker=recorder)  # type: ignore[arg-type]
    failed, interrupted = trial(), trial()
    interrupted.trial_id = "u"
    callback.log_trial_start(failed)
    callback.log_trial_start(interrupted)
    callback.log_trial_end(failed, failed=True)
    callback.on_experiment_end([failed, interrupted])
    assert recorder.calls[2:] == [
        ("end_trial", "search/t", "FAILED", "ValueError: boom"),
        ("end_trial", "search/u", "KILLED"),
    ]


def make_tracker(folder: Path, uri: str) -> StudyTracker:
    tracker = StudyTracker(uri, "experiment", "study", folder / "queue")
    tracker.start_study({})
    return tracker


@pytest.mark.slow
def test_interrupted_and_resumed_trials_have_one_run_each(tmp_path: Path, local_ray: None) -> None:
    study = stub_study(tmp_path, epochs=3, tune={"max_failures": 1})
    (tmp_path / "kill-0-2").touch()
    (tmp_path / "fail-1").touch()
    for resume in (False, True):
        tracker = make_tracker(tmp_path, sqlite_uri(tmp_path))
        run_trials(
            "search",
            StubTrainable,
            stub_trials(study, 2),
            study,
            str(tmp_path / "study"),
            resume=resume,
            callbacks=[MLflowStudyCallback(tracker=tracker)],
        )
        assert tracker.close(timeout_s=200)
        (tmp_path / "fail-1").unlink(missing_ok=True)

    client = mlflow.MlflowClient(sqlite_uri(tmp_path))
    experiment = client.get_experiment_by_name("experiment")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.data.tags["darts.trial_id"] for run in children) == [
        "search/search-000",
        "search/search-001",
    ]
    for run in children:
        assert run.info.status == "FINISHED"
        epochs = client.get_metric_history(run.info.run_id, "validation_accuracy")
        assert sorted(metric.step for metric in epochs) == [1, 2, 3]


def test_a_dead_server_stops_nothing(tmp_path: Path, local_ray: None) -> None:
    study = stub_study(tmp_path, epochs=1)
    tracker = make_tracker(tmp_path, "http://127.0.0.1:9")
    (outcome,) = run_trials(
        "search",
        StubTrainable,
        stub_trials(study, 1),
        study,
        str(tmp_path / "study"),
        resume=False,
        callbacks=[MLflowStudyCallback(tracker=tracker)],
    )
    assert outcome.status == "done"
    assert not tracker.close(timeout_s=1)
