"""A study that grows, whose files are damaged, or whose configuration changes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import StudyConfig
from darts_ray.errors import StudyError
from darts_ray.study import load_study, resume_study, run_study, write_report
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import read_study_file
from darts_ray.study.plan.settings import search_trials
from darts_ray.study.run.recovery import bring_up_to_date
from tests.study.run.conftest import FakeRay, tiny

GOLDEN = Path(__file__).parents[1] / "golden" / "format-0"


def grown(tmp_path: Path, **changes: Any) -> StudyConfig:
    return tiny(tmp_path, **changes)


def test_seeds_and_settings_are_added_to_a_finished_study(tmp_path: Path, ray: FakeRay) -> None:
    first = run_study(tiny(tmp_path))
    before = load_study(first.folder).record
    search = dict(tiny(tmp_path).search or {})
    search["epochs"] = {"grid": [2, 3]}
    second = run_study(grown(tmp_path, seeds="0..3", search=search), resume=True)
    record = load_study(second.folder).record
    assert len(record.search) == 8
    # what is finished is neither repeated nor renamed: Tune finds it under its name
    assert {entry.trial for entry in before.search} < {entry.trial for entry in record.search}
    assert [row["seeds"] for row in second.rows] == ["4 of 4", "4 of 4"]
    assert ray.started == ["search", "select", "retrain"] * 2
    # and one more, by hand in the file
    path = Path(second.folder, "study.yaml")
    path.write_text(path.read_text().replace("- 3\nsearch:", "- 3\n- 7\nsearch:"))
    third = resume_study(second.folder)
    assert [row["seeds"] for row in third.rows] == ["5 of 5", "5 of 5"]


def test_retrain_seeds_are_added(tmp_path: Path, ray: FakeRay) -> None:
    run_study(tiny(tmp_path))
    retrain = {**tiny(tmp_path).model_dump()["retrain"], "seeds": [0, 1, 2]}
    result = run_study(tiny(tmp_path, retrain=retrain), resume=True)
    assert set(result.test_scores) == {0, 1, 2}
    assert ray.started == ["search", "select", "retrain", "retrain"]


@pytest.mark.parametrize("place", ["configuration", "file"])
def test_removing_is_refused_with_the_reason(place: str, tmp_path: Path, ray: FakeRay) -> None:
    folder = run_study(tiny(tmp_path)).folder
    if place == "configuration":
        with pytest.raises(StudyError, match=r"lose the searches -, seed 1\. A study grows"):
            run_study(tiny(tmp_path, seeds=[0, 2]), resume=True)
    else:
        path = Path(folder, "study.yaml")
        path.write_text(path.read_text().replace("- 1\nsearch:", "- 2\nsearch:"))
        with pytest.raises(StudyError, match="may gain"):
            resume_study(folder)
    assert ray.started == ["search", "select", "retrain"]


def test_scheduler_may_not_change_between_searches(tmp_path: Path, ray: FakeRay) -> None:
    run_study(tiny(tmp_path))
    with pytest.raises(StudyError, match=r"differs in: tune\.scheduler"):
        run_study(tiny(tmp_path, tune={"scheduler": "asha"}), resume=True)


def test_changed_export_is_done_again(tmp_path: Path, ray: FakeRay) -> None:
    run_study(tiny(tmp_path))
    said: list[str] = []
    run_study(tiny(tmp_path, export={"tolerance": 1e-3}), resume=True, on_message=said.append)
    assert "export: export.tolerance changed" in said
    assert "export: starts" in said
    assert "retrain: was done before" in said


@pytest.mark.parametrize("content", [b"", b"PAR1", bytes(range(256))])
@pytest.mark.parametrize("name", ["genotypes.json", "results.parquet", "alphas.parquet"])
def test_damaged_files_are_one_error_and_resume_writes_them_anew(
    name: str, content: bytes, tmp_path: Path, ray: FakeRay
) -> None:
    folder = run_study(tiny(tmp_path)).folder
    for stage in ("search", "select", "retrain"):  # where the trials of a real study lie
        Path(folder, stage).mkdir()
    good = load_study(folder)
    Path(folder, name).write_bytes(content)
    with pytest.raises(StudyError, match=rf"{name}.*resume") as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)
    resume_study(folder)
    again = load_study(folder)
    assert again.record.search == good.record.search
    assert again.record.winner == good.record.winner
    assert again.results_table.num_rows == good.results_table.num_rows
    assert again.alphas_table.equals(good.alphas_table)


def test_binary_study_file_is_one_error(tmp_path: Path, ray: FakeRay) -> None:
    folder = run_study(tiny(tmp_path)).folder
    Path(folder, "study.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(StudyError, match=r"study\.yaml"):
        load_study(folder)


def test_a_study_whose_trials_are_named_by_content_keeps_its_names(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN.with_name("format-1"), tmp_path / "golden")
    folder = StudyFolder(tmp_path / "golden")
    for entry in load_study(folder).record.retrain:
        folder.write_text(f"{entry.checkpoint}/network.pt", "there")
    known, _ = read_study_file(folder)
    said: list[str] = []
    record = bring_up_to_date(folder, known, known, said.append)
    assert said == []
    assert record.has_finished("export")
    assert {t.name for t in search_trials(known, record.aliases)} == {
        entry.trial for entry in record.search
    }
    now = known.model_copy(update={"seeds": (0, 1, 2)})
    record = bring_up_to_date(folder, known, now, said.append)
    assert said == ["search: 2 trials are new"]
    assert len({trial.name for trial in search_trials(now, record.aliases)}) == 6
    # a search that was made with something else keeps its name to itself
    other = {**(known.search or {}), "epochs": 3}
    with pytest.raises(StudyError, match="may not change"):
        bring_up_to_date(folder, known, known.model_copy(update={"search": other}), said.append)


def test_a_study_whose_trials_are_named_by_index_grows(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "golden")
    folder = StudyFolder(tmp_path / "golden")
    known, _ = read_study_file(folder)
    for seeds, index in (((0, 1), None), ((0, 1, 2), 2), ((0, 1, 2, 5), 3)):
        now = known.model_copy(update={"seeds": seeds})
        record = bring_up_to_date(folder, known, now, lambda line: None)
        names = [trial.name for trial in search_trials(now, record.aliases)]
        old = [name for name in names if "_" not in name]
        assert old == ["search-000", "search-001", "search-002", "search-003"]
        assert record.has_finished("search") is (index is None)
        if index is not None:
            assert names[index].endswith(f"_seed-{seeds[index]}")


def test_deleted_retrain_checkpoint_makes_the_retraining_pending(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "golden")
    folder = StudyFolder(tmp_path / "golden")
    for entry in load_study(folder).record.retrain:
        folder.write_text(f"{entry.checkpoint}/network.pt", "there")
    known, _ = read_study_file(folder)
    assert bring_up_to_date(folder, known, known, lambda line: None).has_finished("export")
    folder.delete(f"{load_study(folder).record.retrain[0].checkpoint}/network.pt")
    said: list[str] = []
    record = bring_up_to_date(folder, known, known, said.append)
    assert not record.has_finished("retrain")
    assert not record.has_finished("export")
    assert "is gone" in said[0]
