from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import StudyConfig
from darts_ray.errors import StudyError
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import Record, StageState
from darts_ray.study.files.study import (
    read_study_file,
    resolve_paths,
    write_record,
    write_study_file,
)
from darts_ray.study.run.admission import admit
from tests.study.fabricated import finished_image_study, image_config


def changed(config: StudyConfig, **changes: Any) -> StudyConfig:
    return StudyConfig.model_validate({**config.model_dump(), **changes})


def test_new_folder_is_admitted_and_not_made(tmp_path: Path) -> None:
    config = resolve_paths(image_config(tmp_path))
    folder = StudyFolder.of(config)
    assert admit(folder, config, False) is None
    assert admit(folder, config, True) is None
    assert not Path(folder.uri).exists()


def test_existing_study_needs_resume(tmp_path: Path) -> None:
    folder = finished_image_study(tmp_path)
    config, provenance = read_study_file(folder)
    with pytest.raises(StudyError, match="darts-ray resume"):
        admit(folder, config, False)
    assert admit(folder, config, True) == provenance


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    config = resolve_paths(image_config(tmp_path))
    folder = StudyFolder.of(config)
    folder.write_text("thesis.tex", "precious")
    with pytest.raises(StudyError, match=r"thesis\.tex"):
        admit(folder, config, True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"search": {"epochs": 9}}, "search"),
        ({"seeds": [0, 1]}, "seeds"),
        ({"data": {"source": "digits", "max_train": 100}}, "data"),
        ({"select": {"epochs": 9}}, "select"),
        ({"retrain": {"epochs": 9}}, "retrain"),
    ],
)
def test_another_study_is_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    folder = finished_image_study(tmp_path)
    config, _ = read_study_file(folder)
    with pytest.raises(StudyError, match=f"differs in: {named}"):
        admit(folder, changed(config, **changes), True)


def test_what_has_not_begun_may_change(tmp_path: Path) -> None:
    config = resolve_paths(image_config(tmp_path, export=None, retrain=None))
    folder = StudyFolder.of(config)
    write_study_file(folder, config, {"data_fingerprint": "x"})
    write_record(folder, Record(stages={"search": StageState(finished=True)}))
    more = changed(
        config,
        select={"epochs": 9},
        retrain={"epochs": 3},
        export={},
        resources={"max_concurrent": 1},
        # the resolved default, spelled out: still the same trials
        search={**(config.search or {}), "batch_size": 64},
    )
    assert admit(folder, more, True) == {"data_fingerprint": "x"}
