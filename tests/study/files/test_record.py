import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given

from darts_ray.errors import StudyError
from darts_ray.space import zoo
from darts_ray.study import load_study, write_report
from darts_ray.study.files.record import (
    FORMAT,
    Record,
    StageState,
    Winner,
    record_from_json,
    record_to_json,
)
from tests.study.shapes import RECORDS

GOLDEN = Path(__file__).parents[1] / "golden"
FORMATS = sorted(path.name for path in GOLDEN.iterdir())


def test_there_is_a_study_of_every_format() -> None:
    assert FORMATS == [f"format-{number}" for number in range(FORMAT + 1)]
    for number, name in enumerate(FORMATS):
        record = json.loads((GOLDEN / name / "genotypes.json").read_text(encoding="utf-8"))
        assert record.get("format", 0) == number


@given(RECORDS)
def test_record_survives_its_file(record: Record) -> None:
    assert record_from_json(record_to_json(record), "here") == record


@pytest.mark.parametrize("name", FORMATS)
def test_studies_of_every_format_are_read_by_report(name: str, tmp_path: Path) -> None:
    """Two settings, two seeds, a select stage, two retrainings, an export."""
    folder = tmp_path / "golden"
    shutil.copytree(GOLDEN / name, folder)
    study = load_study(folder)
    assert [entry.seed for entry in study.record.search] == [0, 1, 0, 1]
    assert all(entry.select_score is not None for entry in study.record.search)
    assert len(study.record.retrain) == 2
    assert study.record.export is not None
    assert study.record.has_finished("export")
    assert study.winner in study.genotypes.values()
    results = study.results()
    assert results.groupby("stage").trial.nunique().to_dict() == {
        "search": 4,
        "select": 4,
        "retrain": 2,
    }
    assert results[results.stage == "search"].groupby("setting").seed.nunique().to_dict() == {
        "order=first": 2,
        "order=unrolled": 2,
    }
    assert results.test_accuracy.count() == 2  # of each retraining's last epoch
    assert set(study.alphas().trial) == {entry.trial for entry in study.record.search}
    page = Path(write_report(folder)).read_text(encoding="utf-8")
    assert "10 of 10 trials finished" in page
    assert "order=unrolled" in page
    # what is written back is of the present format and says the same
    again = record_from_json(record_to_json(study.record), name)
    assert again == study.record
    assert json.loads(record_to_json(again))["format"] == FORMAT


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "\0\1\2", '{"search": [{}]}', '{"format": 1, "search": 3}',
     '{"format": 1, "winner": {"genotype": {"kind": "x"}}}', '{"format": "new"}'],
)  # fmt: skip
def test_damaged_record_is_one_error(text: str) -> None:
    with pytest.raises(StudyError, match=r"runs/s/genotypes\.json: .*resume") as caught:
        record_from_json(text, "runs/s/genotypes.json")
    assert "\n" not in str(caught.value)


def test_record_of_a_newer_version_is_refused() -> None:
    with pytest.raises(StudyError, match="Update darts_ray"):
        record_from_json('{"format": 99}', "here")


def test_beginning_a_stage_undoes_all_later_ones() -> None:
    done = Record(
        stages={
            name: StageState(1.0, 2, True) for name in ("search", "select", "retrain", "export")
        }
    )
    begun = done.beginning("select", 5)
    assert [begun.has_finished(name) for name in begun.stages] == [True, False, False, False]
    assert begun.stages["select"].num_trials == 5
    assert begun.stages["retrain"].seconds == 1.0


def test_what_belongs_to_another_winner_goes_with_it() -> None:
    first = Winner("a", "-", 0, zoo["DARTS_V1"], "best")
    record = record_from_json((GOLDEN / "format-0" / "genotypes.json").read_text(), "golden")
    assert record.with_winner(first).export is None
    assert record.with_winner(first).retrain == ()
    assert record.winner is not None
    same = Winner("other", "-", 9, record.winner.genotype, "found again")
    assert record.with_winner(same).retrain == record.retrain
