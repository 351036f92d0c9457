import shutil
from pathlib import Path

import pytest

from darts_ray.config import load_config
from darts_ray.errors import StudyError
from darts_ray.study.folder import StudyFolder
from darts_ray.study.store import (
    load_study,
    provenance_now,
    read_study_file,
    resolve_paths,
    write_study_file,
)
from tests.study.fabricated import finished_image_study, image_config


def test_study_file_is_a_configuration(tmp_path: Path) -> None:
    config = resolve_paths(image_config(tmp_path))
    folder = StudyFolder.of(config)
    provenance = provenance_now("finger")
    write_study_file(folder, config, provenance)
    assert load_config(folder.child("study.yaml")) == config
    assert read_study_file(folder) == (config, provenance)
    assert provenance["versions"]["torch"]


def test_provenance_is_optional(tmp_path: Path) -> None:
    config = resolve_paths(image_config(tmp_path))
    folder = StudyFolder.of(config)
    write_study_file(folder, config, {})
    plain = [line for line in folder.read_text("study.yaml").splitlines() if line[:1] != "#"]
    folder.write_text("study.yaml", "\n".join(plain))
    assert read_study_file(folder) == (config, {})


def test_moved_study_follows_its_folder(tmp_path: Path) -> None:
    folder = finished_image_study(tmp_path / "here")
    shutil.move(folder.uri, tmp_path / "renamed")
    study = load_study(tmp_path / "renamed")
    assert study.config.name == "renamed"
    assert study.config.output == str(tmp_path)
    assert study.winner is not None
    assert study.winner in study.genotypes.values()


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
