"""A study's stages, with fabricated trials in place of Ray."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from darts_ray.config import ResourcesSection, StudyConfig
from darts_ray.errors import ConfigError, DataError, StudyError, TrialsFailedError
from darts_ray.space import zoo
from darts_ray.study import load_study, resume_study, run_study
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.plan.settings import retrain_trials
from darts_ray.study.run import stages
from darts_ray.study.run.driver import pending_stages
from darts_ray.tune import TrialOutcome, TrialSpec
from tests.study.fabricated import failed_outcome, search_outcome, training_outcome

TINY_NETWORK = {"channels": 2, "layers": 3, "auxiliary": False, "drop_path": 0.0}
NO_FLIP = {"crop_padding": 1, "horizontal_flip": False}


def tiny(output: Path | str, **changes: Any) -> StudyConfig:
    training = {"network": TINY_NETWORK, "augment": NO_FLIP, "max_steps": 2, "batch_size": 32}
    values: dict[str, Any] = {
        "name": "tiny",
        "output": str(output),
        "data": {"source": "digits", "max_train": 128, "max_test": 64},
        "seeds": [0, 1],
        "search": {
            "network": {"channels": 2, "layers": 3},
            "augment": NO_FLIP,
            "epochs": 2,
            "batch_size": 16,
            "max_steps": 2,
        },
        "select": {**training, "epochs": 1},
        "retrain": {**training, "epochs": 2, "seeds": [0, 1]},
        "export": {},
        "tracking": {"enabled": False},
        **changes,
    }
    return StudyConfig.model_validate(values)


class FakeRay:
    """Stands in for Ray: ends trials at once, and fails or interrupts those it is told to."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.interrupt: str | None = None
        self.started: list[str] = []
        self.continues: list[bool] = []
        self.scores: Callable[[TrialSpec], float] = lambda spec: 0.9

    def preflight(self, *args: Any, continues: bool) -> None:
        self.continues.append(continues)

    def run_trials(
        self, stage: str, trainable: type, trials: Sequence[TrialSpec], *args: Any, **kwargs: Any
    ) -> list[TrialOutcome]:
        self.started.append(stage)
        if stage == self.interrupt:
            raise KeyboardInterrupt
        return [self._end(stage, spec) for spec in trials]

    def _end(self, stage: str, spec: TrialSpec) -> TrialOutcome:
        if spec.name in self.failing:
            return failed_outcome(spec.name, spec.setting, spec.seed)
        if stage == "search":
            return search_outcome(spec.name, spec.setting, spec.seed, 2)
        score, tests = self.scores(spec), stage == "retrain"
        return training_outcome(stage, spec.name, spec.setting, spec.seed, 2, score, test=tests)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    @contextmanager
    def no_ray(resources: ResourcesSection) -> Iterator[None]:
        yield

    def no_export(folder: StudyFolder, entry: dict[str, Any], *args: Any) -> dict[str, Any]:
        return {
            "file": "best.onnx",
            "trial": entry["trial"],
            "seed": entry["seed"],
            "opset": 20,
            "tolerance": 1e-4,
            "max_difference": 1e-6,
            "batch_sizes": [1],
            "checked_on": "nothing",
            "size_bytes": 1,
            "int8": None,
            "registered": None,
        }

    fake = FakeRay()
    monkeypatch.setattr("darts_ray.study.run.driver.start_ray", no_ray)
    monkeypatch.setattr("darts_ray.study.run.driver.preflight", fake.preflight)
    monkeypatch.setattr("darts_ray.study.run.driver.check_fits", lambda *args: None)
    monkeypatch.setattr("darts_ray.study.run.stages.run_trials", fake.run_trials)
    monkeypatch.setattr("darts_ray.study.run.stages.export_network", no_export)
    monkeypatch.setattr("darts_ray.study.run.stages.write_report", lambda folder: f"{folder}/r")
    return fake


def tables(folder: str) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return results without timings, alphas, and the record without times."""
    study = load_study(folder)
    timings = ["seconds", "samples_per_second", "peak_memory_bytes"]
    record = {key: value for key, value in study.record.items() if key != "stages"}
    for entry in record["retrain"]:
        for name in timings:
            entry.pop(name, None)
    results = study.results.to_pandas().drop(columns=timings, errors="ignore")
    return results, study.alphas.to_pandas(), record


def test_all_stages_in_order(tmp_path: Path, ray: FakeRay) -> None:
    said: list[str] = []
    result = run_study(tiny(tmp_path), on_message=said.append)
    assert ray.started == ["search", "select", "retrain"]
    assert list(result.seconds) == ["search", "select", "retrain", "export", "report"]
    assert result.test_scores == {0: 0.9, 1: 0.9}
    assert result.num_trials == 2 + 2 + 2
    assert result.onnx == str(tmp_path / "tiny" / "best.onnx")
    assert result.winner == load_study(result.folder).winner
    (row,) = result.rows
    assert row["seeds"] == "2 of 2"
    assert row["select accuracy (%)"] == "90.00 ± 0.00"
    assert any("winner" in line for line in said)


def test_interrupted_study_keeps_what_is_done_and_resumes(tmp_path: Path, ray: FakeRay) -> None:
    whole = run_study(tiny(tmp_path / "whole"))
    ray.started.clear()
    ray.interrupt = "select"
    with pytest.raises(KeyboardInterrupt):
        run_study(tiny(tmp_path / "cut"))
    cut = str(tmp_path / "cut" / "tiny")
    assert set(load_study(cut).results.to_pandas()["stage"]) == {"search"}
    assert not load_study(cut).record["stages"]["select"]["finished"]
    ray.interrupt = None
    resumed = resume_study(cut)
    assert ray.started == ["search", "select", "select", "retrain"]
    assert ray.continues == [False, False, True]
    for mine, theirs in zip(tables(resumed.folder)[:2], tables(whole.folder)[:2], strict=True):
        pd.testing.assert_frame_equal(mine, theirs)
    assert tables(resumed.folder)[2] == tables(whole.folder)[2]
    assert resumed.rows == whole.rows


def test_finished_study_is_not_repeated(tmp_path: Path, ray: FakeRay) -> None:
    first = run_study(tiny(tmp_path))
    ray.started.clear()
    said: list[str] = []
    again = resume_study(first.folder, on_message=said.append)
    assert ray.started == []
    assert "search: was done before" in said
    assert "export: was done before" in said
    assert again.rows == first.rows
    with pytest.raises(StudyError, match="darts-ray resume"):
        run_study(tiny(tmp_path))


def test_failed_search_is_reported_and_tried_again_at_resume(tmp_path: Path, ray: FakeRay) -> None:
    ray.failing = {"search-001"}
    ray.scores = lambda spec: 0.99 if spec.config["genotype"] == late else 0.5
    late = json.loads(search_outcome("search-001", "-", 1, 2).history[-1]["genotype"])
    first = run_study(tiny(tmp_path))
    assert [entry["trial"] for entry in first.failed] == ["search-001"]
    assert first.failed[0]["error"] == "RuntimeError: <boom>"
    assert first.rows[0]["seeds"] == "1 of 2"
    ray.failing = set()
    ray.started.clear()
    second = resume_study(first.folder)
    # the late cell is better, so it becomes the winner and is retrained and exported
    assert ray.started == ["search", "select", "retrain"]
    assert second.failed == ()
    assert second.winner is not None
    assert second.winner.to_dict() == late
    assert second.winner != first.winner
    results = load_study(first.folder).results.to_pandas()
    assert results[results.stage == "retrain"].trial.nunique() == 2


def test_nothing_to_go_on_with(tmp_path: Path, ray: FakeRay) -> None:
    ray.failing = {"search-000", "search-001"}
    with pytest.raises(TrialsFailedError, match="none of the searches"):
        run_study(tiny(tmp_path))
    record = load_study(tmp_path / "tiny").record
    assert len(record["failed"]) == 2
    assert not record["stages"]["search"]["finished"]
    ray.failing = set()
    assert resume_study(str(tmp_path / "tiny")).failed == ()


def test_the_failures_are_told_before_the_error_that_follows_from_them(
    tmp_path: Path, ray: FakeRay
) -> None:
    retrain = {**tiny(tmp_path).model_dump()["retrain"], "genotype": "DARTS_V1"}
    config = tiny(tmp_path, search=None, select=None, retrain=retrain)
    names = [t.name for t in retrain_trials(config, zoo["DARTS_V1"], "-")]
    ray.failing = set(names)
    said: list[str] = []
    with pytest.raises(TrialsFailedError, match="Nothing to export"):
        run_study(config, on_message=said.append)
    told = [f"failed: retrain {name}: RuntimeError: <boom>" for name in names]
    assert said[-len(names) :] == told


def test_stages_one_by_one(tmp_path: Path, ray: FakeRay) -> None:
    config = tiny(tmp_path)
    searched = run_study(config, stages=("search", "report"))
    assert searched.test_scores == {}
    assert searched.winner is None  # the select stage will say
    with pytest.raises(StudyError, match="stage select has to be finished first"):
        run_study(config, stages=("retrain",))
    assert run_study(config, stages=("select",)).winner is not None
    done = run_study(config, stages=("retrain", "export", "report"))
    assert ray.started == ["search", "select", "retrain"]
    assert done.onnx is not None
    run_study(config, stages=("export",))
    assert ray.started == ["search", "select", "retrain"]
    with pytest.raises(ConfigError, match="deploy"):
        run_study(config, stages=("deploy",))


def test_a_given_cell_needs_no_search(tmp_path: Path, ray: FakeRay) -> None:
    retrain = {**tiny(tmp_path).model_dump()["retrain"], "genotype": "DARTS_V1"}
    result = run_study(tiny(tmp_path, search=None, select=None, retrain=retrain))
    assert ray.started == ["retrain"]
    assert result.rows == ()
    assert "names this cell" in result.winner_reason


def test_a_second_driver_is_kept_out(tmp_path: Path, ray: FakeRay) -> None:
    config = tiny(tmp_path)
    with (
        StudyFolder.of(config).lock(),
        pytest.raises(StudyError, match="another driver"),
    ):
        run_study(config)
    assert ray.started == []


def test_other_data_under_the_same_path_are_noticed(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_study(tiny(tmp_path), stages=("search",)).folder
    text = Path(folder, "study.yaml").read_text()
    changed = text.replace("data_fingerprint: ", "data_fingerprint: other")
    Path(folder, "study.yaml").write_text(changed)
    with pytest.raises(DataError, match="not those that this study began with"):
        resume_study(folder)


def test_sqlite_on_an_object_store_is_refused(ray: FakeRay) -> None:
    config = tiny("s3://bucket/runs?region=us-east-1", tracking={})
    with pytest.raises(ConfigError, match=r"tracking\.uri"):
        run_study(config)


@pytest.mark.parametrize(
    ("done", "failed", "named", "pending"),
    [
        ([], [], False, ["search", "select", "retrain", "export", "report"]),
        (["search"], [], False, ["select", "retrain", "export", "report"]),
        (["search", "select", "retrain", "export"], [], False, ["report"]),
        (["search", "select", "retrain", "export"], [], True, ["export", "report"]),
        (["search", "select", "retrain"], ["retrain"], False, ["retrain", "export", "report"]),
    ],
)
def test_what_is_left_to_do(
    done: list[str], failed: list[str], named: bool, pending: list[str]
) -> None:
    record = {
        "stages": {stage: {"finished": True} for stage in done},
        "failed": [{"stage": stage} for stage in failed],
    }
    assert pending_stages(record, stages.STAGES, named=named) == pending
