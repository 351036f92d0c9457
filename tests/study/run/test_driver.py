"""A study's stages, with fabricated trials in place of Ray."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ray.tune.schedulers import HyperBandScheduler, MedianStoppingRule

from darts_ray.config.sections import TuneClass
from darts_ray.errors import ConfigError, DataError, StudyError, TrialsFailedError
from darts_ray.space import zoo
from darts_ray.study import load_study, resume_study, run_study
from darts_ray.study.files.entries import Candidate
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import (
    STAGES,
    Failure,
    Record,
    StageState,
    cell_name,
    record_to_json,
)
from darts_ray.study.plan.settings import retrain_trials
from darts_ray.study.run.driver import pending_stages
from tests.study.fabricated import search_outcome
from tests.study.run.conftest import FakeRay, searches, tiny


def tables(folder: str) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return results without timings, alphas, and the record without times."""
    study = load_study(folder)
    timings = ["seconds", "samples_per_second", "peak_memory_bytes"]
    record = json.loads(record_to_json(study.record))
    del record["stages"]
    for entry in record["retrain"]:
        for name in timings:
            entry["metrics"].pop(name, None)
    results = study.results().drop(columns=timings, errors="ignore")
    return results, study.alphas(), record


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
    assert set(load_study(cut).results()["stage"]) == {"search"}
    assert not load_study(cut).record.has_finished("select")
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
    lost = searches(tiny(tmp_path))[1]
    ray.failing = {lost}
    ray.scores = lambda spec: 0.99 if spec.config["genotype"] == late else 0.5
    late = json.loads(search_outcome("search-001", "-", 1, 2).history[-1]["genotype"])
    first = run_study(tiny(tmp_path))
    assert [entry["trial"] for entry in first.failed] == [lost]
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
    results = load_study(first.folder).results()
    assert results[results.stage == "retrain"].trial.nunique() == 2


def test_nothing_to_go_on_with(tmp_path: Path, ray: FakeRay) -> None:
    ray.failing = set(searches(tiny(tmp_path)))
    with pytest.raises(TrialsFailedError, match="none of the searches"):
        run_study(tiny(tmp_path))
    record = load_study(tmp_path / "tiny").record
    assert len(record.failed) == 2
    assert not record.has_finished("search")
    ray.failing = set()
    assert resume_study(str(tmp_path / "tiny")).failed == ()


def test_the_failures_are_told_before_the_error_that_follows_from_them(
    tmp_path: Path, ray: FakeRay
) -> None:
    retrain = {**tiny(tmp_path).model_dump()["retrain"], "genotype": "DARTS_V1"}
    config = tiny(tmp_path, search=None, select=None, retrain=retrain)
    cell = Candidate(cell_name(zoo["DARTS_V1"]), zoo["DARTS_V1"], "-")
    names = [t.name for t in retrain_trials(config, [cell])]
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


@pytest.mark.parametrize("stage", ["search", "select", "retrain"])
def test_any_error_after_a_stage_began_is_of_a_run_that_failed(
    stage: str, tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_data(current: str, *args: Any, **kwargs: Any) -> Any:
        if current == stage:
            raise DataError("data.path: is gone.")
        return ray.run_trials(current, *args, **kwargs)

    monkeypatch.setattr("darts_ray.study.run.stages.run_trials", lose_data)
    with pytest.raises(DataError) as caught:
        run_study(tiny(tmp_path))
    assert caught.value.exit_code == 1
    assert DataError("another").exit_code == 2


def test_a_stage_that_cannot_begin_is_wrong_input(tmp_path: Path, ray: FakeRay) -> None:
    run_study(tiny(tmp_path), stages=("search",))
    with pytest.raises(StudyError) as caught:
        run_study(tiny(tmp_path), stages=("retrain",))
    assert caught.value.exit_code == 2


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
    record = Record(
        stages={stage: StageState(finished=True) for stage in done},
        failed=tuple(Failure(stage, "t", "-", 0, "lost") for stage in failed),
    )
    wanted = [stage for stage in STAGES if stage != "benchmark"]
    assert pending_stages(record, wanted, named=named) == pending


def test_a_table_that_is_looked_up_later_repeats_no_training() -> None:
    done = ("search", "select", "retrain", "export")
    record = Record(stages={stage: StageState(finished=True) for stage in done})
    assert pending_stages(record, STAGES, named=False) == ["benchmark", "report"]


def test_a_scheduler_object_is_noted_and_needed_until_the_searches_have_ended(
    tmp_path: Path, ray: FakeRay
) -> None:
    ray.interrupt = "search"
    with pytest.raises(KeyboardInterrupt):
        run_study(tiny(tmp_path), scheduler=HyperBandScheduler(max_t=2), quiet=True)
    folder = tmp_path / "tiny"
    noted = load_study(folder).config.tune.scheduler
    assert noted == TuneClass(type="ray.tune.schedulers.hyperband.HyperBandScheduler", python=True)
    ray.interrupt = None
    with pytest.raises(ConfigError, match=r"HyperBandScheduler.*resume_study\(folder, scheduler="):
        resume_study(folder)
    with pytest.raises(StudyError, match=r"differs in: tune\.scheduler\.type \(may change until"):
        resume_study(folder, scheduler=MedianStoppingRule())
    with pytest.raises(StudyError, match=r"differs in: tune\.scheduler \(may change until"):
        resume_study(folder, overrides=["tune.scheduler=asha"])
    resume_study(folder, scheduler=HyperBandScheduler(max_t=2), quiet=True)
    assert ray.started[0] == ray.started[1] == "search"
    resume_study(folder, quiet=True)  # the searches have ended


def test_a_scheduler_that_cannot_be_made_begins_no_study(tmp_path: Path, ray: FakeRay) -> None:
    config = tiny(tmp_path, tune={"scheduler": {"type": "nowhere.Scheduler"}})
    with pytest.raises(ConfigError, match=r"tune\.scheduler\.type: nowhere cannot be imported"):
        run_study(config)
    assert not (tmp_path / "tiny/study.yaml").exists()
    assert ray.started == []
