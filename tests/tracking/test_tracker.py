"""StudyTracker with the embedded SQLite store."""

from __future__ import annotations

import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import mlflow.onnx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from darts_ray.tracking import Registration, StudyTracker, sqlite_uri

PARAMS = {"epochs": 2, "optim": {"xi": 0.025, "order": "unrolled", "clip": None}}


def make_tracker(folder: Path, uri: str | None = None) -> StudyTracker:
    return StudyTracker(
        uri or sqlite_uri(folder), "experiment", "my-study", folder / "queue", load_onnx=onnx.load
    )


def write_study(tracker: StudyTracker) -> None:
    tracker.start_study({"name": "my-study", "seeds": (0, 1)}, tags={"darts.version": "0.1.0"})
    tracker.start_stage("search")
    for trial in ("t0", "t1"):
        tracker.start_trial("search", trial, f"search {trial}", PARAMS)
        for epoch in (1, 2):
            results = {"train_loss": 1 / epoch, "genotype": "{}", "done": True, "pid": 4}
            tracker.log_epoch(trial, epoch, results)
    tracker.log_artifact("t0", "genotype.json", '{"kind": "conv"}')
    tracker.log_artifact("t0", "figures/alphas.png", b"\x89PNG")
    tracker.end_trial("t0")
    tracker.end_trial("t1", "FAILED", "RuntimeError: node died\n" + "x" * 9000)


class Reader:
    """Reads runs back with MLflow's own client."""

    def __init__(self, uri: str, experiment: str = "experiment") -> None:
        self.client = mlflow.MlflowClient(uri, registry_uri=uri)
        self._experiment = experiment

    def runs(self) -> dict[str, Any]:
        experiment = self.client.get_experiment_by_name(self._experiment)
        assert experiment is not None
        runs = self.client.search_runs([experiment.experiment_id])
        named = {run.data.tags.get("darts.trial_id", "study"): run for run in runs}
        assert len(named) == len(runs), "a run was made twice"
        return named

    def history(self, run: Any, metric: str) -> list[tuple[int, float]]:
        values = self.client.get_metric_history(run.info.run_id, metric)
        return sorted((value.step, value.value) for value in values)

    def artifact(self, run: Any, name: str) -> bytes:
        return Path(self.client.download_artifacts(run.info.run_id, name)).read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was tracked; the driver stood in an empty directory of its own."""
    folder, elsewhere = tmp_path_factory.mktemp("study"), tmp_path_factory.mktemp("cwd")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        tracker = make_tracker(folder)
        write_study(tracker)
        assert tracker.flush()
        assert tracker.run_id is not None
        assert tracker.close()
        assert list(elsewhere.iterdir()) == []
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Nothing may be left where the driver happens to stand (mlflow's default is ./mlflow.db)."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    yield
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def reader(folder: Path) -> Reader:
    return Reader(sqlite_uri(folder))


def test_one_run_per_study_and_a_child_per_trial(reader: Reader) -> None:
    runs = reader.runs()
    assert set(runs) == {"study", "t0", "t1"}
    assert runs["study"].info.run_name == "my-study"
    assert runs["study"].data.params == {"name": "my-study", "seeds": "(0, 1)"}
    assert runs["study"].data.tags["darts.stage"] == "search"
    assert runs["study"].data.tags["darts.version"] == "0.1.0"
    for trial in ("t0", "t1"):
        tags = runs[trial].data.tags
        assert tags["mlflow.parentRunId"] == runs["study"].info.run_id
        assert tags["darts.study"] == "my-study"
        assert tags["darts.stage"] == "search"
        assert runs[trial].info.run_name == f"search {trial}"
        assert runs[trial].data.params == {
            "epochs": "2",
            "optim.xi": "0.025",
            "optim.order": "unrolled",
            "optim.clip": "None",
        }


def test_only_known_metrics_are_written_with_the_epoch_as_step(reader: Reader) -> None:
    run = reader.runs()["t0"]
    assert set(run.data.metrics) == {"train_loss", "epoch"}
    assert reader.history(run, "train_loss") == [(1, 1.0), (2, 0.5)]


def test_status_and_error(reader: Reader) -> None:
    runs = reader.runs()
    assert [runs[name].info.status for name in ("study", "t0", "t1")] == [
        "RUNNING",
        "FINISHED",
        "FAILED",
    ]
    assert runs["t1"].data.tags["darts.error"].startswith("RuntimeError: node died")
    assert runs["t0"].info.end_time is not None


def test_artifacts(reader: Reader, folder: Path) -> None:
    run = reader.runs()["t0"]
    assert reader.artifact(run, "genotype.json") == b'{"kind": "conv"}'
    assert reader.artifact(run, "figures/alphas.png") == b"\x89PNG"
    # Next to the database, so that the study's folder can be moved and shared as one.
    assert run.info.artifact_uri.startswith((folder / "mlartifacts").as_uri())


def test_a_resumed_study_goes_on_in_the_same_runs(folder: Path, reader: Reader) -> None:
    before = {name: run.info.run_id for name, run in reader.runs().items()}
    tracker = make_tracker(folder)
    tracker.start_study({"name": "my-study", "seeds": (0, 1)})
    # t1 is restarted from the checkpoint of epoch 1: it reports epoch 2 again, and then 3.
    tracker.start_trial("search", "t1", "search t1", PARAMS)
    for epoch in (2, 3):
        tracker.log_epoch("t1", epoch, {"train_loss": 1 / epoch})
    # A metric that comes later than its epoch is still new.
    tracker.log_epoch("t1", 3, {"validation_accuracy": 0.75})
    tracker.end_trial("t1")
    tracker.start_stage("retrain")
    tracker.start_trial("retrain", "r0", "retrain seed=0", {})
    tracker.end_study()
    assert tracker.close()

    runs = reader.runs()
    assert {name: runs[name].info.run_id for name in before} == before
    assert set(runs) == {"study", "t0", "t1", "r0"}
    assert reader.history(runs["t1"], "train_loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert reader.history(runs["t1"], "validation_accuracy") == [(3, 0.75)]
    assert runs["t1"].info.status == runs["study"].info.status == "FINISHED"
    assert runs["study"].data.tags["darts.stage"] == "retrain"


def test_params_that_change_mid_run_become_metrics(folder: Path, reader: Reader) -> None:
    tracker = make_tracker(folder)
    tracker.start_trial("search", "pbt", "pbt", PARAMS)
    changes = {2: (0.05, "unrolled"), 3: (0.05, "unrolled"), 4: (0.025, "first")}
    for epoch, (xi, order) in changes.items():
        tracker.log_params("pbt", epoch, {"optim": {"xi": xi, "order": order}})
    assert tracker.close()
    tracker = make_tracker(folder)  # a restarted driver knows the value that is current
    tracker.log_params("pbt", 5, {"optim": {"xi": 0.025, "order": "first"}})
    assert tracker.close()

    run = reader.runs()["pbt"]
    assert run.data.params["optim.xi"] == "0.025"
    assert reader.history(run, "params/optim.xi") == [(2, 0.05), (4, 0.025)]
    assert run.data.tags["params/optim.order"] == "first"
    assert "params/epochs" not in run.data.metrics


def test_values_that_are_no_number(folder: Path, reader: Reader) -> None:
    tracker = make_tracker(folder)
    tracker.start_trial("search", "nan", "nan", {})
    tracker.log_epoch("nan", 1, {"train_loss": math.nan, "valid_loss": math.inf})
    assert tracker.close()
    run = reader.runs()["nan"]
    assert math.isnan(run.data.metrics["train_loss"])
    assert math.isnan(run.data.metrics["valid_loss"])


def test_trial_without_a_start_is_reported_and_skipped(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = make_tracker(folder)
    tracker.log_epoch("stranger", 1, {"train_loss": 1.0})
    tracker.log_artifact("t0", "late.txt", "late")
    assert tracker.close()
    assert "trial stranger has no MLflow run" in caplog.text
    reader = Reader(sqlite_uri(folder))
    assert reader.artifact(reader.runs()["t0"], "late.txt") == b"late"


def test_copies_of_a_tracker_share_one_queue(folder: Path, reader: Reader) -> None:
    # Ray Tune pickles callbacks and what they hold.
    tracker = make_tracker(folder)
    copy = pickle.loads(pickle.dumps(tracker))
    tracker.start_trial("search", "shared", "shared", {})
    for epoch in range(1, 21):
        (copy if epoch % 2 else tracker).log_epoch("shared", epoch, {"train_loss": 1.0})
    assert copy.flush()
    assert tracker.run_id == copy.run_id is not None
    assert tracker.close()
    history = reader.history(reader.runs()["shared"], "train_loss")
    assert history == [(epoch, 1.0) for epoch in range(1, 21)]


def test_the_study_id_finds_the_runs_of_a_lost_queue(folder: Path, reader: Reader) -> None:
    study_id = make_tracker(folder).study_id
    run_id = reader.runs()["study"].info.run_id
    lost = StudyTracker(sqlite_uri(folder), "experiment", "my-study", folder / "other-queue")
    lost.study_id = study_id
    lost.start_study({})
    assert lost.flush()
    assert lost.run_id == run_id
    assert lost.close()
    assert reader.runs()["study"].info.run_id == run_id


def test_a_study_of_the_same_name_elsewhere_gets_its_own_runs(
    folder: Path, reader: Reader, tmp_path: Path
) -> None:
    known = {run.info.run_id for run in reader.runs().values()}
    namesake = make_tracker(tmp_path, sqlite_uri(folder))
    namesake.start_study({})
    assert namesake.flush()
    assert namesake.run_id is not None
    assert namesake.run_id not in known
    reader.client.delete_run(namesake.run_id)
    assert namesake.close()


def test_events_survive_a_killed_driver(folder: Path, reader: Reader) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path;"
        "from darts_ray.tracking import StudyTracker;"
        "t = StudyTracker(sys.argv[1], 'experiment', 'my-study', Path(sys.argv[2]));"
        "t.start_trial('search', 'killed', 'killed', {'seed': 3});"
        "t.log_epoch('killed', 1, {'train_loss': 1.5});"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    uri = "http://127.0.0.1:9"  # nobody listens there
    command = [sys.executable, "-c", script, uri, str(folder / "queue")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    tracker = make_tracker(folder)
    assert tracker.close()
    run = reader.runs()["killed"]
    assert run.data.params == {"seed": "3"}
    assert reader.history(run, "train_loss") == [(1, 1.5)]


def test_a_program_that_ends_without_close_delivers_the_rest(folder: Path, reader: Reader) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from darts_ray.tracking import StudyTracker;"
        "t = StudyTracker(sys.argv[1], 'experiment', 'my-study', Path(sys.argv[2]));"
        "t.start_trial('search', 'forgetful', 'forgetful', {}); t.flush();"
        "t.end_trial('forgetful')"
    )
    command = [sys.executable, "-c", script, sqlite_uri(folder), str(folder / "queue")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert reader.runs()["forgetful"].info.status == "FINISHED"
    assert done.stdout + done.stderr == ""  # and mlflow kept quiet


def small_model(path: Path, factor: float) -> Path:
    """Write `logits = factor * images`, any batch."""
    describe = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["images", "factor"], ["logits"])],
        "graph",
        [describe("images", TensorProto.FLOAT, ["batch", 3])],
        [describe("logits", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save_model(helper.make_model(graph, opset_imports=[opset], ir_version=10), str(path))
    return path


def test_onnx_model_is_registered_as_champion(
    folder: Path, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = make_tracker(folder)
    first = small_model(tmp_path / "best.onnx", 2.0)
    assert tracker.register_onnx(first, "cells", metadata={"test_accuracy": 0.97}) == "1"
    # A stage that is repeated after a resume does not make a second version of the same file.
    assert tracker.register_onnx(first, "cells") == "1"
    second = small_model(tmp_path / "best.onnx", 3.0)
    assert tracker.register_onnx(second, "cells") == "2"
    assert tracker.close()

    assert reader.client.get_model_version_by_alias("cells", "champion").version == 2
    uri = sqlite_uri(folder)
    environment = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proto = mlflow.onnx.load_model("models:/cells@champion")
    assert proto.graph.initializer[0].float_data[0] == 3.0
    loaded = mlflow.pyfunc.load_model("models:/cells/1")
    images = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(loaded.predict(images)["logits"], 2 * images)
    signature = loaded.metadata.signature
    assert [(spec.name, spec.shape) for spec in signature.inputs.inputs] == [("images", (-1, 3))]
    assert loaded.metadata.metadata == {"test_accuracy": 0.97}
    # The version belongs to the study's run.
    assert loaded.metadata.run_id == reader.runs()["study"].info.run_id


def test_tables_and_checkpoint_are_kept_although_the_files_go(
    folder: Path, reader: Reader, tmp_path: Path
) -> None:
    tracker = make_tracker(folder)
    table, weights = tmp_path / "results.parquet", tmp_path / "best.pt"
    table.write_bytes(b"table")
    weights.write_bytes(b"weights")
    tracker.log_tables([table, tmp_path / "missing.parquet"])
    tracker.log_checkpoint(None, weights)
    table.unlink()
    weights.unlink()
    assert tracker.close()
    run = reader.runs()["study"]
    assert reader.artifact(run, "results.parquet") == b"table"
    assert reader.artifact(run, "checkpoints/best.pt") == b"weights"


def test_the_users_own_mlflow_state_is_left_alone(folder: Path) -> None:
    before = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    tracker = make_tracker(folder)
    tracker.start_stage("report")
    assert tracker.close()
    assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == before
    assert mlflow.active_run() is None


def test_champion_moves_to_a_better_model_or_when_told(
    folder: Path, reader: Reader, tmp_path: Path
) -> None:
    tracker = make_tracker(folder)
    how = Registration("champions", rule="better", score_name="select accuracy", data="digits")

    def champion_after(factor: float, how: Registration) -> tuple[str, str]:
        model = small_model(tmp_path / f"{factor}.onnx", factor)
        assert tracker.register_onnx(model, "champions", registration=how)
        now = reader.client.get_model_version_by_alias("champions", "champion")
        return str(now.version), tracker.why_not_champion(model)

    assert champion_after(1.0, replace(how, score=0.9)) == ("1", "")
    version, reason = champion_after(2.0, replace(how, score=0.8))
    assert version == "1"
    assert "0.8 is not better than the 0.9 of version 1; set export.champion=always" in reason
    assert champion_after(3.0, replace(how, score=0.95)) == ("3", "")
    assert champion_after(4.0, replace(how, score=0.99, data="other"))[0] == "3"
    assert champion_after(5.0, replace(how, score=0.99, rule="never"))[0] == "3"
    assert champion_after(6.0, replace(how, score=0.5, rule="always")) == ("6", "")
    # Registered again, as a study that asks for its version does: nothing moves.
    assert champion_after(3.0, replace(how, rule="never"))[0] == "6"
    assert tracker.close()
