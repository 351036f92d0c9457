"""The trainables and the MLflow callback in Tune runs that are no study."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path
from typing import Any

import mlflow
import pytest
from ray import tune

from darts_ray.errors import ConfigError
from darts_ray.tracking import sqlite_uri
from darts_ray.tune import MLflowStudyCallback
from tests.tune.stub import StubTrainable, epochs_run, stub_study, stub_trials

# why: mlflow's SQL store uses a loader strategy that newer SQLAlchemy deprecates
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")


def runs_of(folder: Path, experiment: str) -> tuple[list[Any], list[Any]]:
    """Return the runs above trials and the trials' runs of an SQLite store."""
    client = mlflow.MlflowClient(sqlite_uri(folder))
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return [run for run in runs if run not in children], children


def space(folder: Path, epochs: int, seeds: int) -> dict[str, Any]:
    study = stub_study(folder, epochs=epochs)
    (spec,) = stub_trials(study, 1)
    return {**spec.config, "seed": tune.grid_search(list(range(seeds)))}


def test_the_example_of_the_docstring(tmp_path: Path, local_ray: None) -> None:
    text = inspect.getdoc(MLflowStudyCallback)
    assert text is not None
    example = text[text.index("    from ray import tune") : text.index("Args:")]
    names: dict[str, Any] = {"folder": str(tmp_path)}
    exec(textwrap.dedent(example), names)
    assert names["results"].num_errors == 0
    table = names["results"].get_dataframe()
    assert sorted(table["config/seed"]) == [0, 1]
    assert table["validation_accuracy"].between(0, 1).all()
    (parent,), children = runs_of(tmp_path, "seeds")
    assert parent.data.tags["team"] == "vision"
    assert parent.info.status == "FINISHED"
    assert [run.info.status for run in children] == ["FINISHED"] * 2
    assert {run.data.metrics["validation_accuracy"] for run in children} == set(
        table["validation_accuracy"]
    )


@pytest.mark.slow  # two starts of processes
def test_a_restored_run_repeats_nothing(tmp_path: Path, local_ray: None) -> None:
    (tmp_path / "fail-1").touch()
    tuner = tune.Tuner(
        StubTrainable,
        param_space=space(tmp_path, epochs=2, seeds=2),
        run_config=tune.RunConfig(
            name="plain", storage_path=str(tmp_path), callbacks=[MLflowStudyCallback()]
        ),
    )
    assert tuner.fit().num_errors == 1
    (tmp_path / "fail-1").unlink()
    restored = tune.Tuner.restore(str(tmp_path / "plain"), StubTrainable, resume_errored=True)
    results = restored.fit()
    assert results.num_errors == 0
    assert len(results.get_dataframe()) == 2
    assert epochs_run(tmp_path, 0) == [1, 2]
    (parent,), children = runs_of(tmp_path, "plain")
    assert parent.info.status == "FINISHED"
    assert [run.info.status for run in children] == ["FINISHED"] * 2


def test_a_tracker_decides_alone() -> None:
    with pytest.raises(ConfigError, match="leave them out"):
        MLflowStudyCallback("sqlite:///x.db", tracker=object())  # type: ignore[arg-type]
