from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from darts_ray.config import DataConfig
from darts_ray.data import ImageData, TextData, open_data
from darts_ray.errors import CheckpointError, DataError
from darts_ray.train import (
    RetrainRun,
    evaluate_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from tests.data.files import pixels, png, write_parquet
from tests.train.conftest import image_config, image_split, make_images, make_text, text_config


def _trained_images(path: Path) -> RetrainRun:
    data = make_images(open_test=lambda: image_split(10, seed=5))
    run = RetrainRun(image_config(epochs=1), data)
    run.run_epoch()
    run.test()
    run.save(path)
    return run


def test_network_comes_back_with_what_is_known_of_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "network.pt"
    run = _trained_images(path)
    loaded = load_checkpoint(path)
    assert loaded.config == run.config
    assert loaded.info == make_images().info
    assert loaded.metrics == run.test_metrics
    assert not loaded.network.training
    images = torch.randn(2, 3, 8, 8)
    run.network.eval()
    # the memory layouts differ, and with them the order of summation
    torch.testing.assert_close(loaded.network(images), run.network(images))
    assert [file.name for file in path.parent.iterdir()] == ["network.pt"]  # no leftovers


def test_text_network_is_saved_with_its_averaged_weights(tmp_path: Path) -> None:
    run = RetrainRun(text_config(epochs=6, optim={"lr": 40.0, "asgd_patience": 1}), make_text())
    while not run.finished:
        run.run_epoch()
    means = run.state_dict()["average"]["mean"]
    names = [name for name, _ in run.network.named_parameters()]
    average = means[names.index("embedding")]
    latest = run.network.embedding.detach().clone()
    run.save(tmp_path / "network.pt")
    loaded = load_checkpoint(tmp_path / "network.pt")
    assert loaded.info == make_text().info
    assert torch.equal(loaded.network.embedding, average)
    assert torch.equal(run.network.embedding, latest)
    assert not torch.equal(loaded.network.embedding, latest)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "network.pt"
    _trained_images(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"network\.pt.*truncated"):
        load_checkpoint(path)


def test_zeroed_bytes_are_found_wherever_they_change_something(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    _trained_images(path)
    content = path.read_bytes()
    before = load_checkpoint(path)
    found = 0
    for start in range(0, len(content), len(content) // 60):
        path.write_bytes(content[:start] + bytes(64) + content[start + 64 :])
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            found += 1
            continue
        # the bytes between the parts of the file mean nothing
        assert loaded.config == before.config
        assert loaded.metrics == before.metrics
        for name, value in before.network.state_dict().items():
            assert torch.equal(loaded.network.state_dict()[name], value)
    assert found > 20


def test_an_altered_weight_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    run = _trained_images(path)
    content = bytearray(path.read_bytes())
    start = content.index(run.network.classifier.weight.detach().numpy().tobytes())
    content[start : start + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"network\.pt: was altered .* Copy it again"):
        load_checkpoint(path)


def test_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pt.*no such file"):
        load_checkpoint(tmp_path / "absent.pt")
    foreign = tmp_path / "foreign.pt"
    torch.save({"weights": torch.zeros(2)}, foreign)
    with pytest.raises(CheckpointError, match=r"foreign\.pt.*not a network"):
        load_checkpoint(foreign)
    torch.save(torch.nn.Linear(1, 1), foreign)  # a pickle that could run code
    with pytest.raises(CheckpointError, match=r"foreign\.pt.*cannot be read"):
        load_checkpoint(foreign)


def test_damaged_content_is_named(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    _trained_images(path)
    whole = torch.load(path, weights_only=True)
    name = next(iter(whole["weights"]))
    for damage in (
        {"weights": {key: value for key, value in whole["weights"].items() if key != name}},
        {"config": {}, "weights": {}},
        {"info": {"classes": 3}},
    ):
        torch.save({**whole, **damage}, path)
        with pytest.raises(CheckpointError, match=r"network\.pt.*complete"):
            load_checkpoint(path)


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "network.pt"
    run = _trained_images(path)
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(CheckpointError, match=r"network\.pt.*No space left"):
        run.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["network.pt"]


def test_evaluation_from_the_file_is_the_runs_own(tmp_path: Path) -> None:
    source = DataConfig(source="digits", cache_dir=str(tmp_path), max_train=64)
    data = open_data(source)
    run = RetrainRun(image_config(epochs=1, data=source, max_steps=2), data)
    run.run_epoch()
    scores = run.test()
    run.save(tmp_path / "network.pt")
    assert evaluate_checkpoint(tmp_path / "network.pt", source, device="cpu") == scores
    # another normalisation of the data does not change the network's own
    assert isinstance(data, ImageData)
    other = source.model_copy(update={"mean": (0.9,), "std": (0.1,)})
    again = evaluate_checkpoint(tmp_path / "network.pt", other, batch_size=50, device="cpu")
    assert again == pytest.approx(scores, rel=1e-5)


def _brightness(folder: Path, part: str, names: str) -> None:
    """Write 30 images whose brightness tells the class a, b or c, numbered as in `names`."""
    drawn = np.random.default_rng(0).normal(0, 8, (30, 3, 8, 8))
    level = {"a": 40, "b": 128, "c": 215}
    classes = [names[i % len(names)] for i in range(30)]
    images = [
        png(np.clip(level[c] + noise, 0, 255).astype(np.uint8))
        for c, noise in zip(classes, drawn, strict=True)
    ]
    labels = [names.index(c) for c in classes]
    write_parquet(folder / f"{part}.parquet", images, labels, names=list(names))


def test_other_data_are_scored_by_the_names_of_their_classes(tmp_path: Path) -> None:
    def source(name: str) -> DataConfig:
        path, cache = str(tmp_path / name), str(tmp_path / "cache")
        return DataConfig(source="parquet", path=path, cache_dir=cache)

    for name, names in (("own", "abc"), ("other", "cab"), ("fewer", "ca"), ("foreign", "abd")):
        for part in ("train", "test"):
            _brightness(tmp_path / name, part, names.replace("d", "c"))
        if name == "foreign":
            for part in ("train", "test"):
                images = [png(pixels(1, 8, 8)[0])] * 3
                file = tmp_path / name / f"{part}.parquet"
                write_parquet(file, images, [0, 1, 2], names=list(names))
    config = image_config(epochs=12, data=source("own"), batch_size=10)
    run = RetrainRun(config, open_data(config.data))
    while not run.finished:
        run.run_epoch()
    assert run.test()["test_accuracy"] > 0.9
    run.save(tmp_path / "network.pt")
    for name in ("other", "fewer"):
        scores = evaluate_checkpoint(tmp_path / "network.pt", source(name), device="cpu")
        assert scores["test_accuracy"] > 0.9
    with pytest.raises(DataError, match=r"d. Its classes: a, b, d. Those .* network: a, b, c"):
        evaluate_checkpoint(tmp_path / "network.pt", source("foreign"), device="cpu")
    renamed = source("foreign").model_copy(update={"class_names": ("a", "b", "c")})
    assert evaluate_checkpoint(tmp_path / "network.pt", renamed, device="cpu")["test_loss"] > 0


def test_data_that_do_not_suit_the_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.pt"
    _trained_images(path)
    digits = DataConfig(source="digits", cache_dir=str(tmp_path))
    with pytest.raises(DataError, match="10 classes and 1 channels"):
        evaluate_checkpoint(path, digits, device="cpu")
    small = DataConfig(source="parquet", path=str(tmp_path / "own"), cache_dir=str(tmp_path))
    for part in ("train", "test"):
        images = [png(image) for image in pixels(3, 6, 9)]
        names = list(make_images().info.class_names)
        write_parquet(tmp_path / "own" / f"{part}.parquet", images, [0, 1, 2], names=names)
    with pytest.raises(DataError, match=r"6x9 pixels .* on 8x8 .* data\.image_size: 8"):
        evaluate_checkpoint(path, small, device="cpu")
    resized = small.model_copy(update={"image_size": 8})
    assert evaluate_checkpoint(path, resized, device="cpu")["test_loss"] > 0
    english = DataConfig(source="english", max_train=1000)
    with pytest.raises(DataError, match="text and the data are images"):
        evaluate_checkpoint(path, english, device="cpu")
    text = open_data(english)
    assert isinstance(text, TextData)
    shuffled = replace(text.info, vocabulary=text.info.vocabulary[::-1])
    config = text_config()
    run = RetrainRun(config, replace(text, info=shuffled))
    save_checkpoint(path, run.network, config, shuffled)
    with pytest.raises(DataError, match="word for word"):
        evaluate_checkpoint(path, english, device="cpu")


def test_reading_a_network_draws_none_of_the_callers_random_numbers(tmp_path: Path) -> None:
    _trained_images(tmp_path / "net.pt")
    before = torch.random.get_rng_state()
    load_checkpoint(tmp_path / "net.pt")
    assert torch.equal(torch.random.get_rng_state(), before)
