import shutil
from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import load_config, to_yaml
from darts_ray.errors import StudyError
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import TRAINING_STAGES, Record, StageState
from darts_ray.study.files.study import (
    load_study,
    provenance_now,
    read_study_file,
    resolve_paths,
    write_record,
    write_study_file,
)
from darts_ray.study.plan.settings import search_trials
from darts_ray.study.run.admission import admit
from tests.study.fabricated import finished_image_study, image_config


def test_study_file_is_a_configuration(tmp_path: Path) -> None:
    config = resolve_paths(image_config(tmp_path))
    folder = StudyFolder.of(config)
    provenance = provenance_now("finger")
    write_study_file(folder, config, provenance)
    assert load_config(folder.child("study.yaml")) == config.resolved()
    assert read_study_file(folder) == (config.resolved(), provenance)
    assert provenance["versions"]["torch"]


OWN_SPACE = {"name": "mine", "primitives": ["skip_connect", "sep_conv_3x3"]}


@pytest.mark.parametrize(
    "search",
    [
        {},
        # the order of the axes, which is not the schema's, numbers the trials
        {"epochs": {"grid": [2, 3]}, "optim": {"order": {"grid": ["first", "unrolled"]}}},
        # weight_lr_min follows: 0.001 to the first rate, equal to the second
        {"optim": {"weight_lr": {"grid": [0.025, "1e-4"]}, "xi": {"grid": ["weight_lr", 0.1]}}},
        {"optim": {"grid": [{"weight_lr": 0.1}, {"weight_lr": 1e-4, "order": "unrolled"}]}},
        {
            "space": {"grid": ["darts", {**OWN_SPACE, "nodes": 3}]},
            "max_steps": {"grid": [None, 2]},
        },
        {"space": {**OWN_SPACE, "nodes": {"grid": [2, 3]}}, "network": {"grid": [{"layers": 4}]}},
    ],
)
def test_study_file_fixes_the_search_trials(tmp_path: Path, search: dict[str, Any]) -> None:
    config = resolve_paths(image_config(tmp_path, search=search))
    folder = StudyFolder.of(config)
    write_study_file(folder, config, {"data_fingerprint": "x"})
    write_record(folder, Record(stages=dict.fromkeys(TRAINING_STAGES, StageState())))
    known, _ = read_study_file(folder)
    assert known.search is not None
    assert known.search["train_portion"] == 0.5
    assert search_trials(known) == search_trials(config)
    assert admit(folder, config, True) == {"data_fingerprint": "x"}
    assert admit(folder, known, True) == {"data_fingerprint": "x"}


def test_study_file_with_an_unresolved_search_goes_on(tmp_path: Path) -> None:
    config = resolve_paths(image_config(tmp_path))
    folder = StudyFolder.of(config)
    folder.write_text("study.yaml", to_yaml(config))
    write_record(folder, Record(stages=dict.fromkeys(TRAINING_STAGES, StageState())))
    known, _ = read_study_file(folder)
    assert known == config
    assert admit(folder, config, True) == {}
    assert admit(folder, known.resolved(), True) == {}


def test_provenance_is_optional(tmp_path: Path) -> None:
    config = resolve_paths(image_config(tmp_path))
    folder = StudyFolder.of(config)
    write_study_file(folder, config, {})
    plain = [line for line in folder.read_text("study.yaml").splitlines() if line[:1] != "#"]
    folder.write_text("study.yaml", "\n".join(plain))
    assert read_study_file(folder) == (config.resolved(), {})


def test_moved_study_follows_its_folder(tmp_path: Path) -> None:
    folder = finished_image_study(tmp_path / "here")
    shutil.move(folder.uri, tmp_path / "renamed")
    study = load_study(tmp_path / "renamed")
    assert study.config.name == "renamed"
    assert study.config.output == str(tmp_path)
    assert study.winner is not None
    assert study.winner in study.genotypes.values()


@pytest.mark.parametrize(
    ("uri", "output", "name"),
    [
        ("s3://new/runs/x?region=r", "s3://new/runs?region=r", "x"),
        ("s3://new/runs/x/?region=r", "s3://new/runs?region=r", "x"),
        ("s3://new/x?region=a/b", "s3://new?region=a/b", "x"),
    ],
)
def test_copied_study_on_an_object_store_follows_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, output: str, name: str
) -> None:
    moved = {"output": "s3://old/runs?region=r", "name": "old"}
    text = to_yaml(image_config(tmp_path).model_copy(update=moved))
    copy = StudyFolder(uri)
    monkeypatch.setattr(copy, "has", lambda name: True)
    monkeypatch.setattr(copy, "read_text", lambda name: text)
    config, _ = read_study_file(copy)
    assert (config.output, config.name) == (output, name)
    assert StudyFolder.of(config).child("f") == copy.child("f")


def test_study_at_the_top_of_a_bucket_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = StudyFolder("s3://bucket?region=r")
    monkeypatch.setattr(top, "has", lambda name: True)
    monkeypatch.setattr(top, "read_text", lambda name: to_yaml(image_config(tmp_path)))
    with pytest.raises(StudyError, match="top of a bucket"):
        read_study_file(top)


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"source": "parquet", "path": "pictures"}
    config = resolve_paths(image_config(Path("runs"), data=data))
    assert config.output == str(tmp_path.resolve() / "runs")
    assert config.data.path == str(tmp_path.resolve() / "pictures")
    assert config.data.cache_dir is None


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="holds no study"):
        load_study(tmp_path)
