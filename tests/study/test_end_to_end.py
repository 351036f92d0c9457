"""A tiny study on real images with real Ray, interrupted between two stages and not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from darts_ray.config import ResourcesSection
from darts_ray.data import open_images
from darts_ray.export import OnnxNetwork
from darts_ray.study import StudyResult, load_study, resume_study, run_study
from darts_ray.study.report import deployment
from darts_ray.train import load_checkpoint
from darts_ray.tune import TrialOutcome, run_trials, start_ray
from tests.study.run.conftest import tiny
from tests.study.run.test_driver import tables

pytestmark = [
    pytest.mark.slow,  # tests/test_study_end_to_end.py is the quick one
    # Ray leaves its helper processes and their sockets to the end of the interpreter.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    # Ray calls its own deprecated functions.
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
]

# Starting a worker process takes longer than these trials; one serves all of a stage.
ONE_BY_ONE = {"resources": {"max_concurrent": 1}}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, StudyResult]]:
    """The same study run in one go, and cut before its select stage and resumed."""
    place = tmp_path_factory.mktemp("studies")
    patch = pytest.MonkeyPatch()

    def cut(stage: str, *args: Any, **kwargs: Any) -> list[TrialOutcome]:
        if stage == "select":
            raise KeyboardInterrupt
        return run_trials(stage, *args, **kwargs)

    with start_ray(ResourcesSection()):
        whole = run_study(tiny(place / "whole", tracking={}, **ONE_BY_ONE), quiet=True)
        with patch.context() as interrupted:
            interrupted.setattr("darts_ray.study.run.stages.run_trials", cut)
            with pytest.raises(KeyboardInterrupt):
                run_study(tiny(place / "cut", **ONE_BY_ONE), quiet=True)
        resumed = resume_study(str(place / "cut" / "tiny"), quiet=True)
    yield {"whole": whole, "resumed": resumed}
    patch.undo()


def test_resumed_study_equals_the_uninterrupted_one(studies: dict[str, StudyResult]) -> None:
    whole, resumed = (tables(studies[name].folder) for name in ("whole", "resumed"))
    for mine, theirs in zip(resumed[:2], whole[:2], strict=True):
        pd.testing.assert_frame_equal(mine, theirs)
    for record in (whole[2], resumed[2]):
        for tracked in ("registered", "size_bytes"):  # the file names its MLflow run
            del record["export"][tracked]
    assert resumed[2] == whole[2]


def test_folder_is_complete(studies: dict[str, StudyResult]) -> None:
    names = set(os.listdir(studies["whole"].folder))
    files = {"study.yaml", "results.parquet", "alphas.parquet", "genotypes.json", "report.html"}
    assert {"search", "select", "retrain", "best.onnx", "best.pt", *files} <= names
    assert not [name for name in names if "tmp" in name or "lock" in name]
    results = load_study(studies["whole"].folder).results()
    # two searches and two retrainings of two epochs; as many short trainings as distinct cells
    counts = results.groupby("stage").size()
    assert (counts["search"], counts["retrain"]) == (4, 4)
    assert results.groupby("stage").test_accuracy.count()["select"] == 0
    assert results[results.stage == "retrain"].test_accuracy.notna().sum() == 2


def test_exported_files_compute_what_was_measured(studies: dict[str, StudyResult]) -> None:
    result = studies["whole"]
    config = load_study(result.folder).config
    test = open_images(config.data).open_test()
    images, labels = next(iter(test.read(torch.arange(64), 64, device=torch.device("cpu"))))
    network = OnnxNetwork(Path(result.folder, "best.onnx"))
    logits = network.predict(images)
    accuracy = float((logits.argmax(1) == labels.numpy()).mean())
    saved = load_checkpoint(Path(result.folder, "best.pt"))
    assert saved.config.parsed_genotype() == result.winner
    assert accuracy == pytest.approx(result.test_scores[0], abs=1e-6)
    assert saved.metrics["test_accuracy"] == result.test_scores[0]
    seen = deployment.tested(load_study(result.folder))
    assert seen is not None
    assert (seen.file_accuracy, seen.num_other) == (accuracy, 0)
    # the picture to try it on is the first of the test set
    assert result.example == f"{result.folder}/example.png"
    (picture,) = network.classify([result.example], top=1)
    assert picture[0].label == str(int(logits[0].argmax()))
    assert seen.example == str(int(labels[0]))


def test_every_trial_is_one_run_in_mlflow(studies: dict[str, StudyResult]) -> None:
    folder = Path(studies["whole"].folder)
    with sqlite3.connect(folder.parent / "mlflow.db") as database:
        rows = database.execute(
            "select count(*) from tags where key = 'darts.trial_id'"
        ).fetchall()
    database.close()
    results = load_study(folder).results()
    assert rows == [(results.groupby(["stage", "trial"]).ngroups,)]
    assert load_study(folder).record.export.registered == "tiny, version 1"
