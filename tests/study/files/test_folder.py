import os
import uuid
from pathlib import Path

import pyarrow as pa
import pytest

from darts_ray.errors import StorageError, StudyError
from darts_ray.location import absolute_location, child_location
from darts_ray.study.files.folder import LOCK_FILE, StudyFolder
from darts_ray.study.files.study import load_study, write_study_file
from tests.study.fabricated import image_config


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> StudyFolder:
    if request.param == "local":
        return StudyFolder(tmp_path / "study")
    return StudyFolder(
        child_location(request.getfixturevalue("bucket"), f"runs/{uuid.uuid4().hex}")
    )


def test_reads_what_it_wrote(folder: StudyFolder) -> None:
    assert not folder.has("a.txt")
    assert folder.names() == []
    folder.write_text("a.txt", "ä")
    folder.write_table("b.parquet", pa.table({"x": [1, 2]}))
    folder.write_bytes("deep/er/c", b"12345")
    assert folder.read_text("a.txt") == "ä"
    assert folder.read_table("b.parquet").to_pydict() == {"x": [1, 2]}
    assert folder.names() == ["a.txt", "b.parquet", "deep"]
    assert folder.size() == 2 + 5 + len(folder.read_bytes("b.parquet"))
    folder.write_text("a.txt", "second")
    assert folder.read_text("a.txt") == "second"


def test_missing_file_is_named(folder: StudyFolder) -> None:
    with pytest.raises(StudyError, match=r"there is no genotypes\.json"):
        folder.read_text("genotypes.json")


def test_copied_study_is_read_at_its_new_place(bucket: str, tmp_path: Path) -> None:
    old = StudyFolder(child_location(bucket, "old/first"))
    place = {"output": child_location(bucket, "old"), "name": "first"}
    write_study_file(old, image_config(tmp_path).model_copy(update=place), {})
    new = StudyFolder(child_location(bucket, "new/second"))
    new.write_text("study.yaml", old.read_text("study.yaml"))
    study = load_study(new.uri)
    assert study.config.name == "second"
    assert StudyFolder.of(study.config).uri == new.uri
    assert StudyFolder.of(load_study(old.uri).config).uri == old.uri


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(tmp_path)
    folder.write_text("a.txt", "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match=r"a\.txt.*No space left"):
        folder.write_text("a.txt", "new")
    assert folder.read_text("a.txt") == "old"
    assert folder.names() == ["a.txt"]


def test_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_location("runs") == str(tmp_path.resolve() / "runs")
    assert absolute_location("s3://b/x") == "s3://b/x"
    assert child_location("s3://b/x?region=r", "y") == "s3://b/x/y?region=r"
    assert child_location("hdfs:///runs", "y") == "hdfs:///runs/y"
    assert child_location("/a/b", "c") == "/a/b/c"
    with pytest.raises(StudyError, match="cannot be reached"):
        StudyFolder("ftp9://nowhere/x")


@pytest.mark.parametrize("hindrance", ["taken", "read-only"])
def test_a_folder_that_cannot_be_locked_is_one_clear_error(hindrance: str, tmp_path: Path) -> None:
    place = tmp_path / "s"
    place.mkdir()
    if hindrance == "taken":  # as anyone meets it, root included
        (place / LOCK_FILE).mkdir()
    elif os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    else:
        place.chmod(0o555)
    with pytest.raises(StudyError, match=r"cannot be written: .*Mend its permissions"):
        with StudyFolder(place).lock():
            pass


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(StudyError, match=r"cannot be made \(Not a directory.*another output"),
        StudyFolder(str(tmp_path / "file" / "study")).lock(),
    ):
        pass
