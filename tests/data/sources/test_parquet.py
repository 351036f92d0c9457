import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from darts_ray.config import DataConfig
from darts_ray.data import ImageData, ImageSplit, open_images
from darts_ray.errors import DataError
from tests.data.files import pixels, png, write_parquet

CIFAR = Path(__file__).parents[4] / "shared" / "data" / "cifar10"
NAMES = ("cat", "dog", "emu")


def opened(folder: Path, **settings: Any) -> ImageData:
    cache = str(folder.parent / "cache")
    return open_images(DataConfig(source="parquet", path=str(folder), cache_dir=cache, **settings))


def in_memory(split: object) -> ImageSplit:
    assert isinstance(split, ImageSplit)
    return split


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine training and four test images, without loss, of three classes."""
    root = tmp_path / "data set"
    train = [png(image) for image in pixels(9)]
    write_parquet(root / "train.parquet", train, [0, 1, 2] * 3, names=NAMES)
    test = [png(image) for image in pixels(4, seed=1)]
    write_parquet(root / "test.parquet", test, [2, 1, 0, 0], names=NAMES)
    return root


def test_everything_is_read_from_the_data(folder: Path) -> None:
    data = opened(folder)
    train, test = in_memory(data.train), in_memory(data.open_test())
    assert torch.equal(train.images, torch.from_numpy(pixels(9)))
    assert train.labels.tolist() == [0, 1, 2] * 3
    assert torch.equal(test.images, torch.from_numpy(pixels(4, seed=1)))
    assert test.labels.tolist() == [2, 1, 0, 0]
    info = data.info
    assert (info.num_classes, info.class_names) == (3, NAMES)
    assert (info.channels, info.image_size, info.num_train) == (3, (6, 5), 9)
    scaled = pixels(9) / 255
    np.testing.assert_allclose(info.mean, scaled.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(info.std, scaled.std((0, 2, 3)), rtol=1e-12)


@pytest.mark.parametrize("place", ["", "data/", "plain_text/"])
def test_shards_are_read_in_order(tmp_path: Path, place: str) -> None:
    images = [png(image) for image in pixels(7)]
    for number, part in enumerate([slice(0, 3), slice(3, 4), slice(4, 7)]):
        file = tmp_path / "set" / f"{place}train-0000{number}-of-00003.parquet"
        write_parquet(file, images[part], list(range(7))[part], row_group_size=2)
    train = in_memory(opened(tmp_path / "set").train)
    assert torch.equal(train.images, torch.from_numpy(pixels(7)))
    assert train.labels.tolist() == list(range(7))


def test_plain_binary_and_other_column_names(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "set" / "train.parquet",
        [png(image) for image in pixels(2, channels=1)],
        [0, 1],
        image_column="picture",
        label_column="fine_label",
        struct=False,
    )
    data = opened(tmp_path / "set", image_column="picture")
    assert torch.equal(in_memory(data.train).images, torch.from_numpy(pixels(2, channels=1)))
    assert data.info.channels == 1
    assert data.info.class_names == ("0", "1")


def test_max_train_is_a_seeded_choice_and_max_test_too(folder: Path) -> None:
    whole = in_memory(opened(folder).train)
    chosen = {}
    for seed in (0, 1):
        data = opened(folder, max_train=4, max_test=2, split_seed=seed)
        some = in_memory(data.train)
        assert (len(some), data.info.num_train, len(data.open_test())) == (4, 4, 2)
        rows = [
            next(i for i in range(9) if torch.equal(image, whole.images[i]))
            for image in some.images
        ]
        assert whole.labels[rows].tolist() == some.labels.tolist()
        chosen[seed] = rows
    assert chosen[0] != chosen[1]
    assert len(in_memory(opened(folder, max_train=100).train)) == 9


def test_image_size_resizes_mixed_sizes(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images = [png(pixels(1, 6, 5)[0]), png(pixels(1, 9, 12)[0])]
    write_parquet(root / "train.parquet", images, [0, 1])
    with pytest.raises(DataError, match=r"row 1 .*9x12 pixels.*6x5.*data.image_size"):
        opened(root)
    train = in_memory(opened(root, image_size=4).train)
    assert train.images.shape == (2, 3, 4, 4)
    # A constant image stays constant, whatever its shape.
    flat = np.full((3, 30, 20), 77, dtype=np.uint8)
    write_parquet(root / "train.parquet", [png(flat)], [0])
    assert in_memory(opened(root, image_size=8).train).images.unique().tolist() == [77]


def test_gray_and_colour_mixed(tmp_path: Path) -> None:
    root = tmp_path / "set"
    images = [png(pixels(1)[0]), png(pixels(1, channels=1)[0])]
    write_parquet(root / "train.parquet", images, [0, 1])
    with pytest.raises(DataError, match=r"row 1 .*grayscale.*colour: set data.channels"):
        opened(root)
    colour = in_memory(opened(root, channels=3).train).images
    assert torch.equal(colour[1], torch.from_numpy(pixels(1, channels=1)[0]).expand(3, -1, -1))
    assert in_memory(opened(root, channels=1).train).images.shape == (2, 1, 6, 5)


def test_given_normalisation_is_used(folder: Path) -> None:
    info = opened(folder, mean=(0.1, 0.2, 0.3), std=(1, 2, 3)).info
    assert (info.mean, info.std) == ((0.1, 0.2, 0.3), (1, 2, 3))
    with pytest.raises(DataError, match=r"data.mean and data.std hold 1 numbers.*3 channels"):
        opened(folder, mean=(0.1,), std=(1,))


def test_fingerprint_follows_the_content_not_the_path(folder: Path, tmp_path: Path) -> None:
    first = opened(folder).info.fingerprint
    moved = folder.rename(tmp_path / "elsewhere")
    assert opened(moved).info.fingerprint == first
    images = pixels(9)
    images[8, 2, 5, 4] ^= 1
    write_parquet(moved / "train.parquet", [png(i) for i in images], [0, 1, 2] * 3, names=NAMES)
    assert opened(moved).info.fingerprint != first


def test_only_settings_that_shape_the_pixels_decode_again(folder: Path) -> None:
    cache = folder.parent / "cache"
    for seed in (0, 1):
        opened(folder, split_seed=seed, max_test=3, workers=2)
    assert len(list(cache.glob("*.arrow"))) == 1
    opened(folder, max_train=3)
    opened(folder, image_size=3)
    assert len(list(cache.glob("*.arrow"))) == 3


def test_an_edit_in_place_is_seen(folder: Path) -> None:
    opened(folder)
    new = pixels(9, seed=5)
    write_parquet(folder / "train.parquet", [png(i) for i in new], [0, 1, 2] * 3, names=NAMES)
    assert torch.equal(in_memory(opened(folder).train).images, torch.from_numpy(new))


def test_the_test_file_is_only_opened_on_request(folder: Path) -> None:
    content = (folder / "test.parquet").read_bytes()
    (folder / "test.parquet").write_bytes(b"not Parquet")
    data = opened(folder)
    for ask in (data.check_test, data.open_test):
        with pytest.raises(DataError, match=r"test.parquet: cannot be read as Parquet"):
            ask()
    (folder / "test.parquet").unlink()
    assert opened(folder, max_train=3).info.num_classes == 3
    for ask in (data.check_test, data.open_test):
        with pytest.raises(DataError, match=r"holds no test.parquet"):
            ask()
    (folder / "test.parquet").write_bytes(content)
    assert len(data.open_test()) == 4


def test_the_test_set_must_fit_the_training_set(folder: Path) -> None:
    data = opened(folder)
    write_parquet(folder / "test.parquet", [png(pixels(1, 7, 5)[0])], [0], names=NAMES)
    with pytest.raises(DataError, match=r"test images are \(3, 7, 5\).*\(3, 6, 5\)"):
        data.open_test()
    write_parquet(folder / "test.parquet", [png(pixels(1)[0])], [1], names=["cat", "yak"])
    with pytest.raises(DataError, match=r"yak. Its classes: cat, yak. Those .*: cat, dog, emu"):
        data.open_test()


def test_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: there is no such folder. data.path must"):
        opened(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no train.parquet"):
        opened(tmp_path / "empty")


def test_several_datasets_in_one_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_parquet(tmp_path / "sets" / name / "train.parquet", [png(pixels(1)[0])], [0])
    with pytest.raises(DataError, match=r"several datasets match: .*one, .*two. Set data.path"):
        opened(tmp_path / "sets")


def test_missing_columns_are_listed(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no image column 'photo'; the columns are: img, label"):
        opened(folder, image_column="photo")
    with pytest.raises(DataError, match=r"no label column 'kind'.*Set data.label_column"):
        opened(folder, label_column="kind")
    table = pq.read_table(folder / "train.parquet").rename_columns(["x", "y"])
    pq.write_table(table, folder / "train.parquet")
    with pytest.raises(DataError, match=r"no label column 'label' or 'fine_label'.*: x, y"):
        opened(folder)


def test_columns_of_a_wrong_type(folder: Path) -> None:
    with pytest.raises(DataError, match=r"'img' holds struct.*labels must be integers"):
        opened(folder, label_column="img")
    with pytest.raises(DataError, match=r"'label' holds int64, but images must be encoded"):
        opened(folder, image_column="label")


@pytest.mark.parametrize(("label", "shown"), [(3, "3"), (-1, "-1"), (None, "None")])
def test_labels_out_of_range(folder: Path, label: int | None, shown: str) -> None:
    images = [png(image) for image in pixels(2)]
    write_parquet(folder / "train.parquet", images, [0, label], names=NAMES)
    message = rf"train.parquet, row 1 .*the label {shown} in column 'label'.*valid.* 0 to 2"
    with pytest.raises(DataError, match=message):
        opened(folder)


def test_labels_that_do_not_count_classes(folder: Path) -> None:
    write_parquet(folder / "train.parquet", [png(pixels(1)[0])] * 3, [0, 1, 70])
    with pytest.raises(DataError, match=r"labels reach 70, but there are only 3 images"):
        opened(folder)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (b"no image", r"cannot be decoded"),
        (png(pixels(1, 40, 40)[0])[:200], r"cannot be decoded"),
        (b"", r"cannot be decoded"),
        (None, r"holds no bytes"),
    ],
)
def test_a_corrupt_image_is_named_by_file_and_row(
    tmp_path: Path, broken: bytes | None, message: str
) -> None:
    root = tmp_path / "set"
    good = png(pixels(1)[0])
    write_parquet(root / "train-0.parquet", [good] * 3, [0] * 3)
    write_parquet(root / "train-1.parquet", [good] * 5 + [broken, good], [0] * 7, row_group_size=2)
    with pytest.raises(DataError, match=rf"train-1.parquet, row 5 .*{message}"):
        opened(root)
    assert not list((tmp_path / "cache").glob("*.arrow"))  # nothing half-written


def test_deep_images_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(file)
    write_parquet(tmp_path / "set" / "train.parquet", [file.read_bytes()], [0])
    with pytest.raises(DataError, match=r"row 0 .*more than 8 bits"):
        opened(tmp_path / "set")


def test_damaged_and_empty_files(folder: Path) -> None:
    content = (folder / "train.parquet").read_bytes()
    (folder / "train.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"train.parquet: cannot be read as Parquet"):
        opened(folder)
    pq.write_table(
        pa.table({"img": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}),
        folder / "train.parquet",
    )
    with pytest.raises(DataError, match="hold no rows"):
        opened(folder)


@pytest.mark.skipif(not CIFAR.exists(), reason="shared data are not here")
def test_cifar10(tmp_path: Path) -> None:
    data = open_images(
        DataConfig(
            source="parquet", path=str(CIFAR), cache_dir=str(tmp_path), max_train=500, max_test=50
        )
    )
    assert data.info.class_names[:3] == ("airplane", "automobile", "bird")
    assert (data.info.channels, data.info.image_size) == (3, (32, 32))
    # The paper's constants, from all 50,000 original images; these are 500 of them.
    np.testing.assert_allclose(data.info.mean, (0.4914, 0.4822, 0.4465), atol=0.03)
    np.testing.assert_allclose(data.info.std, (0.2470, 0.2435, 0.2616), atol=0.03)
    assert data.train.labels.bincount(minlength=10).min() > 20
    assert len(data.open_test()) == 50


def write_part(
    folder: Path, part: str, classes: Sequence[str], names: Sequence[str] | None, **columns: Any
) -> None:
    """Write one image per given class, its brightness telling the class: a 10, b 20, c 30."""
    images = [png(np.full((3, 6, 6), 10 * (ord(c) - 96), dtype=np.uint8)) for c in classes]
    order = names or sorted(set(classes))
    labels = [order.index(c) for c in classes]
    write_parquet(folder / f"{part}.parquet", images, labels, names=names, **columns)


def classes_by_brightness(data: ImageData, split: ImageSplit) -> bool:
    """Whether every image carries the label of the class that its brightness tells."""
    drawn = ["?abc"[int(image.max()) // 10] for image in split.images]
    return drawn == [data.info.class_names[label] for label in split.labels]


def test_a_test_part_that_numbers_its_classes_otherwise_is_mapped_by_name(tmp_path: Path) -> None:
    write_part(tmp_path / "set", "train", "abcabc", "abc")
    write_part(tmp_path / "set", "test", "abca", "cab")
    data = opened(tmp_path / "set")
    assert in_memory(data.open_test()).labels.tolist() == [0, 1, 2, 0]
    # also when some classes are missing there
    write_part(tmp_path / "set", "test", "cac", "ca")
    assert in_memory(data.open_test()).labels.tolist() == [2, 0, 2]


def test_shards_that_number_their_classes_otherwise_are_mapped_by_name(tmp_path: Path) -> None:
    for number, names in enumerate(("abc", "bca", "cab")):
        write_part(tmp_path / "set", f"train-0000{number}-of-00003", "aabc", names)
    data = opened(tmp_path / "set")
    assert data.info.class_names == ("a", "b", "c")
    assert classes_by_brightness(data, in_memory(data.train))


def test_shards_with_other_classes_are_refused_with_both_lists(tmp_path: Path) -> None:
    write_part(tmp_path / "set", "train-00000-of-00002", "ab", "ab")
    write_part(tmp_path / "set", "train-00001-of-00002", "ac", "ac")
    with pytest.raises(DataError, match=r"00001-of-00002.*: c. Its classes: a, c. .*: a, b"):
        opened(tmp_path / "set")
    write_part(tmp_path / "set", "train-00001-of-00002", "ab", None)
    with pytest.raises(DataError, match=r"00001-of.*: its labels are bare.*\(a, b\)"):
        opened(tmp_path / "set")


def test_numbers_are_no_names(folder: Path) -> None:
    write_parquet(folder / "test.parquet", [png(pixels(1)[0])], [1])
    with pytest.raises(DataError, match=r"Its classes: 0, 1. Those .*: cat, dog, emu"):
        opened(folder).open_test()


def with_labels(file: Path, labels: pa.Array, names: object = None) -> None:
    """Write images of the given brightness classes with a label column of any type."""
    images = [png(np.full((3, 6, 6), i % 256, dtype=np.uint8)) for i in range(len(labels))]
    table = pa.table({"img": pa.array(images, pa.binary()), "label": labels})
    if names is not None:
        about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)


TEXTS = pa.array(["dog", "cat", "emu", "cat"])


@pytest.mark.parametrize(
    "labels",
    [TEXTS, TEXTS.cast(pa.large_string()), TEXTS.dictionary_encode()],
    ids=["string", "large_string", "dictionary"],
)
def test_texts_are_class_names_in_sorted_order(
    tmp_path: Path, labels: pa.Array, caplog: pytest.LogCaptureFixture
) -> None:
    with_labels(tmp_path / "set" / "train.parquet", labels)
    with_labels(tmp_path / "set" / "test.parquet", pa.array(["emu", "dog"]))
    data = opened(tmp_path / "set")
    assert data.info.class_names == ("cat", "dog", "emu")
    assert in_memory(data.train).labels.tolist() == [1, 0, 2, 0]
    assert in_memory(data.open_test()).labels.tolist() == [2, 1]
    assert "classes in sorted order: cat, dog, emu" in caplog.text
    with_labels(tmp_path / "set" / "test.parquet", pa.array(["emu", "eel"]))
    with pytest.raises(DataError, match=r"eel. Its classes: eel, emu. Those .*: cat, dog, emu"):
        data.check_test()


def test_texts_of_several_shards_are_numbered_together(tmp_path: Path) -> None:
    with_labels(tmp_path / "set" / "train-0.parquet", pa.array(["b", "c"]))
    with_labels(tmp_path / "set" / "train-1.parquet", pa.array(["a", "b"]))
    data = opened(tmp_path / "set")
    assert data.info.class_names == ("a", "b", "c")
    assert in_memory(data.train).labels.tolist() == [1, 2, 0, 1]


def test_true_and_false_are_two_classes(tmp_path: Path) -> None:
    with_labels(tmp_path / "set" / "train.parquet", pa.array([True, False]))
    assert opened(tmp_path / "set").info.class_names == ("false", "true")


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8(), pa.int32(), pa.uint64()])
def test_integers_of_any_width(tmp_path: Path, kind: pa.DataType) -> None:
    with_labels(tmp_path / "set" / "train.parquet", pa.array([2, 0, 1], kind))
    assert in_memory(opened(tmp_path / "set").train).labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([0, 2**63, 1], pa.uint64()), rf"row 1 .*label {2**63} .*out of range"),
        (pa.array([0, 2**64 - 1], pa.uint64()), rf"row 1 .*label {2**64 - 1} .*out of range"),
        (pa.array([0.0, 1.0]), r"holds double, but labels must be integers or class names"),
        (pa.array([None, None]), r"holds null, but labels must be"),
        (pa.array([[0], [1]]), r"holds list.*labels must be"),
        (pa.array(["a", None]), r"row 1 .*no class name"),
        (pa.array(["a", " "]), r"row 1 .*no class name"),
        (pa.array([0, 1, -1]), r"row 2 .*label -1 .*out of range"),
        (pa.array([0, None]), r"row 1 .*label None"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, labels: pa.Array, message: str) -> None:
    with_labels(tmp_path / "set" / "train.parquet", labels)
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "set")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", None], r"each class needs a name"),
        ("ab", r"each class needs a name"),
        ({"a": 0}, r"each class needs a name"),
        (["a", "a"], r"two classes .* the name 'a'"),
    ],
)
def test_names_that_are_none(tmp_path: Path, names: object, message: str) -> None:
    with_labels(tmp_path / "set" / "train.parquet", pa.array([0, 1]), names)
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "set")


def test_no_names_are_numbers(tmp_path: Path) -> None:
    with_labels(tmp_path / "set" / "train.parquet", pa.array([0, 1]), [])
    assert opened(tmp_path / "set").info.class_names == ("0", "1")


def test_labels_from_one_are_asked_about(tmp_path: Path) -> None:
    root = tmp_path / "set"
    with_labels(root / "train.parquet", pa.array([1, 2, 3]))
    with_labels(root / "test.parquet", pa.array([3, 1]))
    with pytest.raises(DataError, match=r"no training image has the label 0.* from 1, set"):
        opened(root)
    data = opened(root, first_label=1)
    assert data.info.class_names == ("1", "2", "3")
    assert in_memory(data.train).labels.tolist() == [0, 1, 2]
    assert in_memory(data.open_test()).labels.tolist() == [2, 0]
    with_labels(root / "test.parquet", pa.array([3, 0]))
    with pytest.raises(DataError, match=r"have the label 0, below data.first_label, 1"):
        opened(root, first_label=1).check_test()


def test_a_number_that_no_image_has_is_asked_about(tmp_path: Path) -> None:
    with_labels(tmp_path / "set" / "train.parquet", pa.array([0, 1, 3, 3]))
    with pytest.raises(DataError, match=r"no training image has the label 2"):
        opened(tmp_path / "set")
    data = opened(tmp_path / "set", class_names=("a", "b", "c", "d"))
    assert (data.info.num_classes, data.info.class_names) == (4, ("a", "b", "c", "d"))
    with pytest.raises(DataError, match=r"reach 3, but data.class_names names 3 .*first_label"):
        opened(tmp_path / "set", class_names=("a", "b", "c"))


def test_classes_can_be_renamed(folder: Path) -> None:
    data = opened(folder, class_names=("Katze", "Hund", "Emu"))
    assert data.info.class_names == ("Katze", "Hund", "Emu")
    assert in_memory(data.open_test()).labels.tolist() == [2, 1, 0, 0]
    with pytest.raises(DataError, match=r"holds 2 names, but there are 3 classes: cat, dog, emu"):
        opened(folder, class_names=("a", "b"))
    with pytest.raises(DataError, match=r"first_label is for labels that are bare numbers"):
        opened(folder, first_label=1)


def test_a_column_that_occurs_twice(folder: Path) -> None:
    table = pq.read_table(folder / "train.parquet")
    twice = table.append_column("label", table.column("label"))
    pq.write_table(twice, folder / "train.parquet")
    with pytest.raises(DataError, match=r"2 columns named 'label'"):
        opened(folder)


def test_captions_are_no_classes(tmp_path: Path) -> None:
    with_labels(tmp_path / "set" / "train.parquet", pa.array([f"cat {i}" for i in range(1001)]))
    with pytest.raises(DataError, match=r"1001 different texts for 1001 images"):
        opened(tmp_path / "set")


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 5], "5"), ([0, -1], "label -1"), ([0, None], "label None")],
)
def test_the_labels_of_the_test_part_are_checked_before_training(
    tmp_path: Path, labels: list[int | None], message: str
) -> None:
    with_labels(tmp_path / "set" / "train.parquet", pa.array([0, 1]))
    with_labels(tmp_path / "set" / "test.parquet", pa.array(labels))
    with pytest.raises(DataError, match=message):
        opened(tmp_path / "set").check_test()


def test_a_corrupt_test_image_is_noticed_before_training(folder: Path) -> None:
    images = [png(pixels(1)[0]), b"no image"]
    write_parquet(folder / "test.parquet", images, [0, 1], names=NAMES)
    with pytest.raises(DataError, match=r"test.parquet, row 1 .*cannot be decoded"):
        opened(folder).check_test()


def test_a_git_lfs_pointer_is_recognised(folder: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    (folder / "train.parquet").write_bytes(pointer)
    with pytest.raises(DataError, match="git lfs pull"):
        opened(folder)
