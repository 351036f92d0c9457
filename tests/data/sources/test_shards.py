"""A part's files are found by their exact names, all of them or none."""

from pathlib import Path

import pytest

from darts_ray.data.sources.shards import find_shards
from darts_ray.errors import DataError

HASH = "-a09b74b3ef9c3b56"


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def found(root: Path, part: str = "train") -> list[str]:
    return [str(path.relative_to(root)) for path in find_shards(root, part)]


@pytest.mark.parametrize(
    "names",
    [
        ["train.parquet"],
        ["train.PARQUET"],
        ["train-0.parquet", "train-1.parquet"],
        ["train_1.parquet", "train_2.parquet"],
        ["train0.parquet", "train1.parquet"],
        [f"train-{i}.parquet" for i in range(12)],
        ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        ["train-00001-of-00002.parquet", "train-00002-of-00002.parquet"],
        [f"data/train-00000-of-00001{HASH}.parquet"],
        ["default/train/0000.parquet", "default/train/0001.parquet"],
        ["train/0000.parquet"],
        ["train/train-00000-of-00001.parquet"],
        ["train.parquet/part-00000-0a1b2c3d-0000-4000-8000-0123456789ab-c000.snappy.parquet"],
        ["train/first.parquet", "train/second.parquet"],
    ],
)
def test_usual_layouts(tmp_path: Path, names: list[str]) -> None:
    assert found(make(tmp_path, *names)) == names


@pytest.mark.parametrize(
    "other",
    [
        "train_extra-00000-of-00001.parquet",
        "train-extra.parquet",
        "train.extra.parquet",
        "training.parquet",
        "train2/0000.parquet",
        "._train-00000-of-00001.parquet",
        ".train.parquet",
        "test_blur-00000-of-00001.parquet",
        "train-00000-of-00001.parquet.crc",
        "partial-train/0000.parquet",
    ],
)
def test_parts_with_similar_names_are_others(tmp_path: Path, other: str) -> None:
    own = "train-00000-of-00001.parquet"
    assert found(make(tmp_path, own, other)) == [own]


def test_a_number_without_a_separator_may_be_another_part(tmp_path: Path) -> None:
    make(tmp_path, "train.parquet", "test.parquet", "test2.parquet")
    assert found(tmp_path, "test") == ["test.parquet"]
    assert found(tmp_path, "test2") == ["test2.parquet"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], "number 1 is missing"),
        (["train-00000-of-00002.parquet"], "number 1 is missing"),
        (["train-00001-of-00002.parquet"], "number 0 is missing"),
        (["train-0.parquet", "train-2.parquet"], "number 1 is missing"),
        (["train-7.parquet"], "numbers 0, 1, 2, 3, 4, ... are missing"),
        (["default/train/0000.parquet", "default/train/0002.parquet"], "number 1 is missing"),
        (
            ["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"],
            "several sets of files",
        ),
        (
            ["train-00000-of-00001.parquet", f"train-00000-of-00001{HASH}.parquet"],
            "2 files .* but 1 ",
        ),
        (["train.parquet", "train-0.parquet"], "does not belong to the numbered files"),
        (["train.parquet", "train/0000.parquet"], "is there twice"),
        (["a/train.parquet", "b/train.parquet"], r"several datasets match: .*a, .*b"),
        (["default/partial-train/0000.parquet"], "only a share of the part"),
        (["validation.parquet"], r"holds no train.parquet.*parts there are: validation"),
    ],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_shards(make(tmp_path, *names), "train")


def test_another_name_of_the_test_part_is_suggested(tmp_path: Path) -> None:
    make(tmp_path, "data/train.parquet", "data/validation-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"no test.parquet.*: train, validation. Name one in data"):
        find_shards(tmp_path, "test")
    assert found(tmp_path, "validation") == ["data/validation-00000-of-00001.parquet"]


def test_parts_of_two_datasets_are_not_mixed(tmp_path: Path) -> None:
    make(tmp_path, "train.parquet", "other/test.parquet")
    with pytest.raises(DataError, match=r"holds no test.parquet"):
        find_shards(tmp_path, "test")


def test_a_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=r"train.parquet: is a link to nothing"):
        find_shards(tmp_path, "train")
