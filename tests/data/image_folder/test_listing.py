"""What people and tools leave in image folders."""

import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from darts_ray.data.image_folder.listing import class_folders
from darts_ray.errors import DataError
from tests.data.files import pixels, write_folder
from tests.data.image_folder.test_opening import opened

NAMES = ("ant", "bee")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for part, seed in (("train", 0), ("val", 5)):
        write_folder(root, part, {n: list(pixels(2, seed=seed + i)) for i, n in enumerate(NAMES)})
    return root


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints", "__MACOSX", "@eaDir", "lost+found", ".git", "$RECYCLE.BIN"],
)
def test_folders_of_tools_are_no_classes(folder: Path, name: str) -> None:
    before = opened(folder).info
    for place in ("train", "val", "train/ant", "val/bee"):
        (folder / place / name).mkdir()
        (folder / place / name / "000.png").write_bytes(b"thumbnail")
    data = opened(folder)
    data.check_test()
    assert (data.info.class_names, data.info.fingerprint) == (NAMES, before.fingerprint)


def test_other_files_are_left_out(folder: Path) -> None:
    fingerprint = opened(folder).info.fingerprint
    for name in (".DS_Store", "Thumbs.db", "._000.png", "desktop.ini", "list.txt"):
        (folder / "train" / name).write_bytes(b"x")
        (folder / "train" / "ant" / name).write_bytes(b"x")
    assert opened(folder).info.fingerprint == fingerprint


def test_images_that_are_not_read_are_counted(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (5, 6)).save(folder / "train" / "ant" / "more.gif")
    with caplog.at_level(logging.WARNING):
        assert opened(folder).info.num_train == 4
    assert "files that are not read: 1 .gif" in caplog.text


def test_suffixes_in_capitals(folder: Path) -> None:
    file = folder / "train" / "ant" / "000.png"
    file.rename(file.with_suffix(".PNG"))
    assert opened(folder).info.num_train == 4


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_class_without_images_is_named(folder: Path, part: str) -> None:
    (folder / "train" / "cow").mkdir()
    write_folder(folder, "train", {"cow": list(pixels(1))})
    (folder / part / "cow").mkdir(exist_ok=True)
    for file in (folder / part / "cow").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=rf"{part}/cow: the class holds no images .*holds nothing"):
        opened(folder).check_test()
    Image.new("RGB", (5, 6)).save(folder / part / "cow" / "000.gif")
    with pytest.raises(DataError, match=rf"{part}/cow: .*the folder holds 1 .gif"):
        opened(folder).check_test()


@pytest.mark.parametrize("others", [0, 2])
def test_nested_folders_are_refused(folder: Path, others: int) -> None:
    write_folder(folder, "train/cow", {"images": list(pixels(2))})
    if others:
        write_folder(folder, "train", {"cow": list(pixels(others))})
    with pytest.raises(DataError, match=r"train/cow: holds the folders images, but images are"):
        opened(folder)


def test_links(folder: Path, tmp_path: Path) -> None:
    link = folder / "train" / "ant" / "link.png"
    link.symlink_to(folder / "train" / "ant" / "000.png")
    (folder / "train" / "cow").symlink_to(folder / "val" / "bee")
    assert opened(folder).info.class_names == (*NAMES, "cow")
    link.unlink()
    link.symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"ant/link.png: is a link to a file that is not there"):
        opened(folder)
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(DataError, match=r"ant/link.png: is a link that leads back to itself"):
        opened(folder)
    link.unlink()
    (folder / "train" / "dog").symlink_to(folder / "train" / "dog")
    with pytest.raises(DataError, match=r"train/dog: is a link that leads back"):
        opened(folder)
    (folder / "train" / "dog").unlink()
    (folder / "train" / "dog").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"train/dog: is a link to a file that is not there"):
        opened(folder)


def test_what_only_has_an_images_name(folder: Path) -> None:
    place = folder / "train" / "ant" / "new.png"
    place.write_bytes(b"")
    with pytest.raises(DataError, match=r"ant/new.png: the image file is empty"):
        opened(folder)
    place.unlink()
    place.mkdir()
    with pytest.raises(DataError, match=r"ant/new.png: has the name of an image, but is no file"):
        opened(folder)


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines"])
def test_names_that_no_file_can_hold(folder: Path, name: bytes) -> None:
    os.mkdir(os.fsencode(folder / "train") + b"/" + name)
    with pytest.raises(DataError, match=r"cannot name a class"):
        opened(folder)


def test_flat_and_missing_folders_are_explained(folder: Path) -> None:
    (folder / "val").rename(folder / "validation")
    with pytest.raises(DataError, match=r"val: cannot be read.*holds the folders train, valid"):
        opened(folder).check_test()
    assert opened(folder, test_part="validation").check_test() == 4
    (folder / "flat").mkdir()
    Image.new("RGB", (5, 6)).save(folder / "flat" / "0.png")
    with pytest.raises(DataError, match=r"one folder per class. The 1 images in it belong"):
        class_folders(folder / "flat")


def test_a_corrupt_test_image_is_noticed_before_training(folder: Path) -> None:
    (folder / "val" / "bee" / "001.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"val/bee/001.png: the image cannot be decoded"):
        opened(folder).check_test()


def test_a_corrupt_training_image_is_noticed_even_if_nothing_is_measured(folder: Path) -> None:
    (folder / "train" / "bee" / "001.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"train/bee/001.png: the image cannot be decoded"):
        opened(folder, mean=(0.5,) * 3, std=(0.5,) * 3, max_train=None)


def test_other_classes_in_the_test_folder_are_refused_with_both_lists(folder: Path) -> None:
    (folder / "val" / "ant").rename(folder / "val" / "Ant")
    with pytest.raises(DataError, match=r"has: Ant, bee. The training set has: ant, bee"):
        opened(folder).check_test()
