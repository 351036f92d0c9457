import gc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from darts_ray.config import AugmentConfig, ColorJitter, DataConfig
from darts_ray.data import ImageData, ImageStream, evaluation_batches, open_images
from darts_ray.errors import DataError
from tests.data.files import pixels, write_folder

CPU = torch.device("cpu")
IMAGENET = AugmentConfig(random_resized_crop=True, color_jitter=ColorJitter())
NAMES = ("ant", "bee", "cow")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four training and two validation images of each of three classes, 12 x 10 pixels."""
    root = tmp_path / "set"
    for part, num, seed in (("train", 4, 0), ("val", 2, 9)):
        images = {n: list(pixels(num, 12, 10, seed=seed + i)) for i, n in enumerate(NAMES)}
        write_folder(root, part, images)
    return root


def opened(folder: Path, **settings: Any) -> ImageData:
    settings = {"workers": 0, "cache_dir": str(folder.parent / "cache"), **settings}
    return open_images(DataConfig(source="image_folder", path=str(folder), **settings))


def evaluated(data: ImageData, split: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(evaluation_batches(split or data.train, None, 5, info=data.info, device=CPU))
    return torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])


def make_stream(data: ImageData, augment: AugmentConfig = IMAGENET, seed: int = 0) -> ImageStream:
    return ImageStream(
        data.train,
        torch.arange(len(data.train)),
        4,
        info=data.info,
        augment=augment,
        seed=seed,
        device=CPU,
    )


def test_everything_is_read_from_the_data(folder: Path) -> None:
    data = opened(folder)
    info = data.info
    assert (info.class_names, info.num_classes, info.num_train) == (NAMES, 3, 12)
    assert (info.channels, info.image_size) == (3, (12, 10))
    images, labels = evaluated(data)
    expected = np.concatenate([pixels(4, 12, 10, seed=i) for i in range(3)]) / 255
    np.testing.assert_allclose(info.mean, expected.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(info.std, expected.std((0, 2, 3)), rtol=1e-12)
    mean, std = (np.array(v)[:, None, None] for v in (info.mean, info.std))
    np.testing.assert_allclose(images.numpy(), (expected - mean) / std, atol=1e-5)
    assert labels.tolist() == data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_val_is_the_test_set_and_only_opened_on_request(folder: Path) -> None:
    val = folder / "val"
    hidden = val.rename(folder / "hidden")
    data = opened(folder)
    list(make_stream(data).epoch())
    for ask in (data.check_test, data.open_test):
        with pytest.raises(DataError, match=r"val: cannot be read: No such file"):
            ask()
    hidden.rename(val)
    data.check_test()
    images, labels = evaluated(data, data.open_test())
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.shape == (6, 3, 12, 10)


def test_a_validation_folder_may_lack_classes_but_not_add_any(folder: Path) -> None:
    (folder / "val" / "ant").rename(folder / "val" / "dog")
    with pytest.raises(DataError, match=r"val/dog: train has no such class"):
        opened(folder).open_test()
    with pytest.raises(DataError, match=r"val/dog: train has no such class"):
        opened(folder).check_test()
    (folder / "val" / "dog").rename(folder / "elsewhere")
    assert opened(folder).open_test().labels.tolist() == [1, 1, 2, 2]


def test_image_size_gives_the_centre_view(tmp_path: Path) -> None:
    root = tmp_path / "set"
    # 64 x 96 pixels, left half 0, right half 200: the centre of the middle is where they meet.
    image = np.zeros((3, 64, 96), dtype=np.uint8)
    image[:, :, 48:] = 200
    write_folder(root, "train", {"ant": [image, pixels(1, 30, 20)[0]]})
    data = opened(root, image_size=28)
    (batch,) = data.train.read(torch.tensor([0]), 1, device=CPU)
    view = batch[0][0]
    assert view.shape == (3, 28, 28)
    # The shorter side becomes 32, so 28 of 32 rows and 28 of 48 columns stay; the edge is central.
    assert view[:, :, :13].max() == 0
    assert view[:, :, 15:].min() == 200


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("augment", [IMAGENET, AugmentConfig(crop_padding=2, cutout=3)])
def test_a_stream_is_seeded_and_resumes_exactly(
    folder: Path, workers: int, augment: AugmentConfig
) -> None:
    data = opened(folder, workers=workers, image_size=8)
    reference = make_stream(opened(folder, image_size=8), augment)
    expected = [reference.next() for _ in range(7)]
    stream = make_stream(data, augment)
    state = torch.get_rng_state()
    for _ in range(2):
        stream.next()
    resumed = make_stream(data, augment)
    resumed.load_state_dict(stream.state_dict())
    for images, targets in expected[2:]:
        found = resumed.next()
        assert torch.equal(found[0], images)
        assert torch.equal(found[1], targets)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(make_stream(data, augment, seed=1).next()[0], expected[0][0])


def test_samples_have_their_own_crops(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_folder(root, "train", {"ant": [pixels(1, 12, 12)[0]] * 6})
    data = opened(root, image_size=8)
    (images,) = [
        images
        for images, _ in ImageStream(
            data.train, torch.arange(6), 6, info=data.info, augment=IMAGENET, seed=0, device=CPU
        ).epoch()
    ]
    assert len({image.numpy().tobytes() for image in images}) == 6


def test_mean_and_std_are_measured_once(folder: Path) -> None:
    first = opened(folder).info
    (stored,) = (folder.parent / "cache").glob("image_folder-*.json")
    stored.write_text(
        '{"mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}'.replace("{", "[")
        .replace('"mean": ', "")
        .replace('"std": ', "")
        .replace("}", "]")
    )
    info = opened(folder).info
    assert (info.mean, info.std) == ((0.1, 0.2, 0.3), (1, 2, 3))
    assert info.fingerprint == first.fingerprint
    given = opened(folder, mean=(0.5,) * 3, std=(0.25,) * 3).info
    assert (given.mean, given.std) == ((0.5,) * 3, (0.25,) * 3)


def test_max_train(folder: Path) -> None:
    data = opened(folder, max_train=5, max_test=3)
    assert (len(data.train), data.info.num_train, data.info.num_classes) == (5, 5, 3)
    assert len(data.open_test()) == 3


def test_gray_folders_have_one_channel_until_a_colour_image_turns_up(tmp_path: Path) -> None:
    root = tmp_path / "set"
    gray = list(pixels(70, channels=1))
    write_folder(root, "train", {"ant": gray})
    assert opened(root).info.channels == 1
    assert opened(root, channels=3).info.channels == 3
    # 72 images: every third is looked at, and the last one is not.
    write_folder(root, "train", {"bee": [gray[0], pixels(1)[0]]})
    with pytest.raises(DataError, match=r"bee/001.png: the image is colour.*data.channels"):
        opened(root)
    assert opened(root, channels=1).info.channels == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_is_named(folder: Path, workers: int) -> None:
    data = opened(folder, workers=workers)
    (folder / "train" / "bee" / "002.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^\S*train/bee/002.png: the image cannot be decoded"):
        evaluated(data)


def test_mixed_sizes(folder: Path) -> None:
    write_folder(folder, "train", {"dog": [pixels(1, 9, 9)[0]]})
    with pytest.raises(DataError, match=r"dog/000.png: .* 9x9 pixels.*data.image_size"):
        opened(folder)


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train: cannot be read.*train/CLASS"):
        opened(tmp_path / "nowhere")
    (tmp_path / "set" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match="one folder per class"):
        opened(tmp_path / "set")
    (tmp_path / "set" / "train" / "ant").mkdir()
    with pytest.raises(DataError, match="class holds no images"):
        opened(tmp_path / "set")


def test_fingerprint_follows_names_and_sizes(folder: Path, tmp_path: Path) -> None:
    first = opened(folder).info.fingerprint
    moved = folder.rename(tmp_path / "moved")
    assert opened(moved).info.fingerprint == first
    (moved / "train" / "ant" / "000.png").unlink()
    assert opened(moved).info.fingerprint != first


def processes() -> set[int]:
    return {child.pid for child in psutil.Process().children() if child.is_running()}


def test_decoding_processes_serve_every_pass_and_end_with_their_stream(folder: Path) -> None:
    before = processes()
    data = opened(folder, workers=2, image_size=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    stream = make_stream(data)
    for _ in stream.epoch():
        pass
    first = processes() - before
    assert len(first) >= 2
    for _ in range(3):
        for _ in stream.epoch():
            pass
    assert processes() - before == first
    # another stream beside it has its own, as the two are read in turns
    other = make_stream(data, seed=1)
    pairs = zip(stream.epoch(), other.epoch(), strict=True)
    reference = opened(folder, image_size=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    alone = make_stream(reference, seed=1)
    for (_, (images, _)), (expected, _) in zip(pairs, alone.epoch(), strict=True):
        assert torch.equal(images, expected)
    del stream, other, data
    gc.collect()
    psutil.wait_procs([psutil.Process(pid) for pid in processes() - before], timeout=10)
    assert processes() <= before


def test_a_pass_that_is_given_up_leaves_no_trace_in_the_next(folder: Path) -> None:
    data = opened(folder, workers=2)
    order = torch.arange(12)
    begun = data.train.read(order, 2, device=CPU)
    next(begun)
    del begun
    passes = [torch.cat([x for x, _ in data.train.read(order.flip(0), 3, device=CPU)])]
    passes += [torch.cat([x for x, _ in opened(folder).train.read(order, 5, device=CPU)]).flip(0)]
    assert torch.equal(*passes)


def test_workers_without_shared_memory_are_refused_instead_of_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(folder, workers=2)
    free = SimpleNamespace(free=1000)
    monkeypatch.setattr("darts_ray.data.image_folder.split.shutil.disk_usage", lambda _: free)
    with pytest.raises(DataError, match=r"data\.workers: 2 processes .* Enlarge it .*workers=0"):
        next(iter(data.train.read(torch.arange(4), 4, device=CPU)))
    assert len(opened(folder).train) == 12  # none are needed without workers
    evaluated(opened(folder))


def test_jpegs_and_other_files_are_seen_alike(tmp_path: Path) -> None:
    (tmp_path / "set/train/ant").mkdir(parents=True)
    picture = Image.fromarray(pixels(1, 40, 30)[0].transpose(1, 2, 0))
    jpeg = tmp_path / "set/train/ant/0.jpg"
    picture.save(jpeg)
    Image.open(jpeg).save(jpeg.with_name("1.png"))  # the decoded pixels, without loss
    data = opened(tmp_path / "set", image_size=16)
    ((images, _),) = data.train.read(torch.arange(2), 2, device=CPU)
    assert torch.equal(images[0], images[1])
