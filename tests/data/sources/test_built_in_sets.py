"""The digits, and the datasets that torchvision reads."""

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from darts_ray.config import DataConfig
from darts_ray.data import ImageData, ImageSplit, open_data, split_indices
from darts_ray.errors import DataError
from tests.data.files import pixels


def opened(folder: Path, source: str, **settings: Any) -> ImageData:
    path = None if source == "digits" else str(folder / "raw")
    cache = str(folder / "cache")
    data = open_data(DataConfig(source=source, path=path, cache_dir=cache, **settings))
    assert isinstance(data, ImageData)
    return data


def in_memory(split: object) -> ImageSplit:
    assert isinstance(split, ImageSplit)
    return split


def test_digits(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data = opened(tmp_path, "digits")
    train, test = in_memory(data.train), in_memory(data.open_test())
    assert (len(train), len(test), data.info.num_train) == (1437, 360, 1437)
    assert (data.info.channels, data.info.image_size) == (1, (8, 8))
    assert data.info.class_names == tuple("0123456789")
    # Stratified: a fifth of every class, within one image.
    total = np.bincount(load_digits().target)
    assert np.abs(test.labels.bincount().numpy() - total / 5).max() < 1
    # Together they are all images, each once, with values 0..16 spread over 0..255.
    both = torch.cat([train.images, test.images])
    expected = np.rint(load_digits().images * 255 / 16)
    assert sorted(i.numpy().tobytes() for i in both) == sorted(
        i.astype(np.uint8).tobytes() for i in expected
    )
    assert both.max() == 255


def test_digits_can_be_resized_coloured_and_cut(tmp_path: Path) -> None:
    data = opened(tmp_path, "digits", image_size=16, channels=3, max_train=100, max_test=10)
    assert in_memory(data.train).images.shape == (100, 3, 16, 16)
    assert in_memory(data.open_test()).images.shape == (10, 3, 16, 16)
    assert len(data.info.mean) == 3
    assert data.train.labels.bincount().min() > 0


def write_mnist(root: Path, name: str, part: str, num: int, seed: int) -> None:
    prefix = {"train": "train", "test": "t10k"}[part]
    raw = root / "raw" / name / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    images = pixels(num, 28, 28, 1, seed)
    head = struct.pack(">IIII", 0x803, num, 28, 28)
    (raw / f"{prefix}-images-idx3-ubyte").write_bytes(head + images.tobytes())
    labels = bytes(i % 10 for i in range(num))
    (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, num) + labels)


@pytest.mark.parametrize(
    ("source", "name"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_mnist_files(tmp_path: Path, source: str, name: str) -> None:
    write_mnist(tmp_path, name, "train", 20, 0)
    write_mnist(tmp_path, name, "test", 10, 1)
    data = opened(tmp_path, source)
    assert torch.equal(in_memory(data.train).images, torch.from_numpy(pixels(20, 28, 28, 1, 0)))
    assert data.train.labels.tolist() == list(range(10)) * 2
    assert data.info.num_classes == 10
    test = in_memory(data.open_test())
    assert torch.equal(test.images, torch.from_numpy(pixels(10, 28, 28, 1, 1)))


def test_a_missing_set_is_downloaded_only_if_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(self: object) -> None:
        write_mnist(tmp_path, "MNIST", "train", 20, 0)

    monkeypatch.setattr("torchvision.datasets.MNIST.download", download)
    with pytest.raises(DataError, match=r"Set data.download to true"):
        opened(tmp_path, "mnist")
    with pytest.raises(DataError, match=r"mnist cannot be downloaded .*network"):
        # Without the test files torchvision takes the download for failed.
        opened(tmp_path, "mnist", download=True)
    write_mnist(tmp_path, "MNIST", "test", 10, 1)
    (tmp_path / "raw" / "MNIST" / "raw" / "train-images-idx3-ubyte").unlink()
    (tmp_path / "raw" / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    assert opened(tmp_path, "mnist", download=True).info.num_train == 20


def write_cifar(root: Path, *, fine: bool) -> None:
    folder = root / "raw" / ("cifar-100-python" if fine else "cifar-10-batches-py")
    folder.mkdir(parents=True)
    key = "fine_labels" if fine else "labels"
    train = ["train"] if fine else [f"data_batch_{n}" for n in range(1, 6)]
    for seed, name in enumerate([*train, "test" if fine else "test_batch"]):
        data = pixels(4, 32, 32, 3, seed).reshape(4, -1)
        (folder / name).write_bytes(pickle.dumps({"data": data, key: [3, 1, 2, 0]}))
    meta = "meta" if fine else "batches.meta"
    names = {"fine_label_names" if fine else "label_names": ["a", "b", "c", "d"]}
    (folder / meta).write_bytes(pickle.dumps(names))


@pytest.mark.parametrize(("source", "num"), [("cifar10", 20), ("cifar100", 4)])
def test_cifar_files(
    tmp_path: Path, source: str, num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Our tiny files cannot have the checksums of the real ones.
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    write_cifar(tmp_path, fine=source == "cifar100")
    data = opened(tmp_path, source)
    assert in_memory(data.train).images.shape == (num, 3, 32, 32)
    assert torch.equal(in_memory(data.train).images[:4], torch.from_numpy(pixels(4, 32, 32)))
    assert data.train.labels[:4].tolist() == [3, 1, 2, 0]
    assert data.info.class_names == ("a", "b", "c", "d")
    assert len(data.open_test()) == 4


def test_svhn_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda *_: True)
    (tmp_path / "raw").mkdir()
    for part, num in (("train", 12), ("test", 3)):
        images = pixels(num, 32, 32)
        # SVHN stores (row, column, channel, number), and the digit 0 as the class 10.
        values = {"X": images.transpose(2, 3, 1, 0), "y": np.arange(1, num + 1)[:, None] % 11}
        scipy.io.savemat(tmp_path / "raw" / f"{part}_32x32.mat", values)
    data = opened(tmp_path, "svhn")
    assert torch.equal(in_memory(data.train).images, torch.from_numpy(pixels(12, 32, 32)))
    assert data.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 1]
    assert data.info.num_classes == 10
    assert len(data.open_test()) == 3


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "svhn", "mnist", "fashion_mnist"])
def test_missing_files_name_the_remedy(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match=rf"the train files of {source}. Set data.download"):
        opened(tmp_path, source)


def test_damaged_files(tmp_path: Path) -> None:
    write_cifar(tmp_path, fine=False)
    with pytest.raises(DataError, match=r"cifar10 cannot be read.*corrupted"):
        opened(tmp_path, "cifar10")
    write_mnist(tmp_path, "MNIST", "train", 20, 0)
    images = tmp_path / "raw" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(DataError, match="mnist cannot be read"):
        opened(tmp_path, "mnist")


def test_the_test_files_are_only_opened_on_request(tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST", "train", 20, 0)
    write_mnist(tmp_path, "MNIST", "test", 10, 1)
    test_images = tmp_path / "raw" / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    test_images.write_bytes(gzip.compress(b"damaged"))
    data = opened(tmp_path, "mnist")
    with pytest.raises(DataError, match="mnist cannot be read"):
        data.open_test()


def test_split_indices() -> None:
    first, rest = split_indices(11, 0.5, seed=3)
    assert (len(first), len(rest)) == (5, 6)
    assert sorted([*first.tolist(), *rest.tolist()]) == list(range(11))
    assert torch.equal(first, split_indices(11, 0.5, seed=3)[0])
    assert not torch.equal(first, split_indices(11, 0.5, seed=4)[0])
    for portion in (0.05, 0.999):
        assert len(split_indices(1000, portion, 0)[0]) == int(1000 * portion)
    with pytest.raises(DataError, match=r"3 training images cannot be split at 0\.2"):
        split_indices(3, 0.2, 0)
