from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from darts_ray.config import DataConfig
from darts_ray.data import ImageData, accept_listing, open_images, shared_listing
from darts_ray.data.image_folder import listing, remembered
from tests.data.files import pixels, write_folder

NAMES = ("ant", "bee")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three training images of each of two classes, in folders that have not changed lately."""
    monkeypatch.setattr(remembered, "REMEMBERED_FROM", 6)
    root = tmp_path / "set"
    images = {name: list(pixels(3, 8, 8, seed=seed)) for seed, name in enumerate(NAMES)}
    write_folder(root, "train", images)
    age(root)
    return root


def age(root: Path) -> None:
    for name in NAMES:
        os.utime(root / "train" / name, (time.time() - 60,) * 2)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes which class folders are listed."""
    seen: list[str] = []
    real = listing._images

    def noting(folder: Path, ignored: Any) -> Any:
        seen.append(folder.name)
        return real(folder, ignored)

    monkeypatch.setattr(listing, "_images", noting)
    return seen


def config(folder: Path, cache: str = "cache", **settings: Any) -> DataConfig:
    place = str(folder.parent / cache)
    return DataConfig(
        source="image_folder", path=str(folder), workers=0, cache_dir=place, **settings
    )


def same(one: ImageData, other: ImageData) -> bool:
    every = torch.arange(len(one.train))
    cpu = torch.device("cpu")
    (a, b) = (list(data.train.read(every, 10, device=cpu)) for data in (one, other))
    return one.info == other.info and all(map(torch.equal, a[0], b[0]))


def test_a_large_folder_is_listed_once(folder: Path, listed: list[str]) -> None:
    first = open_images(config(folder))
    assert listed == ["ant", "bee"]
    assert same(first, open_images(config(folder)))
    assert open_images(config(folder, max_train=2)).info.num_train == 2
    assert listed == ["ant", "bee"]


def test_a_folder_that_changed_is_listed_again(folder: Path, listed: list[str]) -> None:
    before = open_images(config(folder)).info
    image = next((folder / "train" / "ant").iterdir())
    image.rename(image.with_name("new.png"))
    assert open_images(config(folder)).info.fingerprint != before.fingerprint
    # it changed a moment ago and may change again, so that listing is not kept
    open_images(config(folder))
    assert listed == ["ant", "bee"] * 3


def test_small_folders_and_damaged_listings(
    folder: Path, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_images(config(folder))
    (kept,) = (folder.parent / "cache").glob("image_listing-*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    assert same(data, open_images(config(folder)))
    assert listed == ["ant", "bee"] * 2
    kept.unlink()
    monkeypatch.setattr(remembered, "REMEMBERED_FROM", 7)
    open_images(config(folder))
    assert not kept.exists()


def test_another_machine_need_not_list(folder: Path, listed: list[str]) -> None:
    data = open_images(config(folder))
    sent = shared_listing(config(folder))
    assert sent is not None
    accept_listing(config(folder, "elsewhere"), sent)
    assert same(data, open_images(config(folder, "elsewhere")))
    assert listed == ["ant", "bee"]
    # a copy of its own has folders of its own
    shutil.copytree(folder, folder.parent / "copy")
    open_images(config(folder.parent / "copy", "elsewhere"))
    assert listed == ["ant", "bee"] * 2
    assert shared_listing(DataConfig()) is None
