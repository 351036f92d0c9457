"""`darts-ray evaluate` on a checkpoint of the original code's layout and on one of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from darts_ray.cli import run
from darts_ray.config import DataConfig
from darts_ray.data import open_data
from darts_ray.space import zoo
from darts_ray.train import RetrainRun
from tests.data.files import pixels, png, write_parquet
from tests.reference import original_layout as original
from tests.train.conftest import image_config

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
NUM_TEST = 12


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Random images of three classes, and the YAML file that names them."""
    for part, num, seed in (("train", 6, 0), ("test", NUM_TEST, 1)):
        drawn = [png(image) for image in pixels(num, 32, 32, seed=seed)]
        labels = [index % 3 for index in range(num)]
        write_parquet(tmp_path / "data" / f"{part}.parquet", drawn, labels, names=["a", "b", "c"])
    data = {
        "source": "parquet",
        "path": str(tmp_path / "data"),
        "cache_dir": str(tmp_path / "cache"),
        "mean": list(MEAN),
        "std": list(STD),
    }
    network = {"channels": 4, "layers": 3}
    path = tmp_path / "evaluate.yaml"
    values = {"name": "evaluate", "data": data, "retrain": {"network": network}}
    values["retrain"]["genotype"] = "DARTS_V1"  # type: ignore[index]
    path.write_text(yaml.safe_dump(values))
    return path


def evaluate(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert run(["evaluate", *map(str, words), "--json"]) == 0
    scores: dict[str, Any] = json.loads(capsys.readouterr().out)
    return scores


def test_an_original_checkpoint_scores_what_the_original_network_scores(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    theirs = original.DerivedNetwork(zoo["DARTS_V2"], 4, 3, 3, imagenet=False)
    original.randomise(theirs)
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    scores = evaluate(
        capsys, tmp_path / "weights.pt", "--data", images, "--original", "--genotype", "DARTS_V2"
    )
    pictures = torch.from_numpy(pixels(NUM_TEST, 32, 32, seed=1)) / 255
    normal = (pictures - as_channels(MEAN)) / as_channels(STD)
    labels = torch.arange(NUM_TEST) % 3
    with torch.no_grad():
        logits, _ = theirs.eval()(normal)
    loss = torch.nn.functional.cross_entropy(logits, labels)
    assert scores["test_accuracy"] == (logits.argmax(1) == labels).double().mean().item()
    assert scores["test_loss"] == pytest.approx(loss.item(), rel=1e-4)


def as_channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def test_a_checkpoint_of_ours_knows_its_cell(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = DataConfig.model_validate(yaml.safe_load(images.read_text())["data"])
    training = RetrainRun(image_config(epochs=1, data=source, batch_size=6), open_data(source))
    training.run_epoch()
    training.save(tmp_path / "network.pt")
    assert evaluate(capsys, tmp_path / "network.pt", "--data", images) == training.test()
    whole = (tmp_path / "network.pt").read_bytes()
    for name, content in (("cut.pt", whole[:-900]), ("half.pt", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
        assert run(["evaluate", str(tmp_path / name), "--data", str(images)]) == 2
        assert name in capsys.readouterr().err
    words = [str(tmp_path / "network.pt"), "--data", str(images), "--genotype", "DARTS_V2"]
    assert run(["evaluate", *words]) == 2
    assert "our checkpoints know theirs" in capsys.readouterr().err


def test_a_yaml_file_of_data_alone_is_enough(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = yaml.safe_load(images.read_text())
    source = DataConfig.model_validate(values["data"])
    training = RetrainRun(image_config(epochs=1, data=source, batch_size=6), open_data(source))
    training.run_epoch()
    training.save(tmp_path / "network.pt")
    alone = tmp_path / "data.yaml"
    alone.write_text(yaml.safe_dump({"data": values["data"]}))
    assert evaluate(capsys, tmp_path / "network.pt", "--data", alone) == training.test()
    other = [str(tmp_path / "network.pt"), "--data", str(alone), "--set", "data.image_size=48"]
    assert run(["evaluate", *other]) == 2
    assert "trained on 32x32" in capsys.readouterr().err.replace("\n", " ")
    assert run(["evaluate", *other[:-1], "data.sorce=digits"]) == 2
    assert "data.sorce: unknown key. Did you mean" in capsys.readouterr().err
    assert run(["evaluate", *other[:3], "--original"]) == 2
    assert "needs a retrain section" in capsys.readouterr().err.replace("\n", " ")


def test_a_file_that_does_not_fit_is_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = original.DerivedNetwork(zoo["DARTS_V2"], 4, 3, 3, imagenet=False)
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    words = [str(tmp_path / "weights.pt"), "--data", str(images), "--original"]
    assert run(["evaluate", *words]) == 2  # the YAML file's cell is another one
    assert "Traceback" not in capsys.readouterr().err
    assert run(["evaluate", str(tmp_path / "none.pt"), "--data", str(images)]) == 2
    assert "none.pt" in capsys.readouterr().err


@pytest.mark.parametrize("original_file", [True, False])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pt", b"", "is empty"),
        ("page.pt", b"<!DOCTYPE html><title>Sign in</title>", "HTML page"),
        ("pointer.pt", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("packed.pt", b"\x1f\x8b\x08\0" * 9, "gunzip"),
        ("notes.pt", b"not a checkpoint", "is "),
    ],
)
def test_other_files_end_in_one_clear_error(
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    original_file: bool,
    name: str,
    content: bytes,
    message: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    words = [str(tmp_path / name), "--data", str(images), *(["--original"] * original_file)]
    assert run(["evaluate", *words]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert message in said
    assert "weights_only" not in said


def test_a_folder_is_no_checkpoint(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], ["--original"]):
        assert run(["evaluate", str(tmp_path), "--data", str(images), *words]) == 2
        assert "Is a directory" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_named(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = original.DerivedNetwork(zoo["DARTS_V1"], 4, 3, 3, imagenet=False)
    weights = theirs.state_dict()
    weights["classifier.bias"][0] = torch.nan
    torch.save({"model": weights, "optimizer": {"lr": 0.1}, "epoch": 3}, tmp_path / "nan.pt")
    words = [str(tmp_path / "nan.pt"), "--data", str(images), "--original"]
    assert run(["evaluate", *words]) == 2
    assert "'classifier.bias' holds NaN or infinite" in capsys.readouterr().err.replace("\n", " ")
