"""`darts-ray predict` on real files: pictures in every form, texts, and what is neither."""

from __future__ import annotations

import json
import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from darts_ray.cli import run
from darts_ray.export import (
    ModelMetadata,
    OnnxNetwork,
    PictureRule,
    TextRule,
    export_onnx,
    export_recurrent_onnx,
    load_proto,
)
from darts_ray.nn import RecurrentNetwork
from darts_ray.space import zoo
from tests.data.files import write_parquet

WORDS = ("<unk>", "<eos>", "the", "cat", "sat")


class Brightest(nn.Module):
    """Calls a picture by its brightest colour."""

    def forward(self, x: Tensor) -> Tensor:
        return 10 * x.mean((2, 3))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "best.onnx"
    metadata = ModelMetadata(
        zoo["DARTS_V2"].to_json(),
        ("red", "green", "blue"),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        pictures=PictureRule((8, 8), "centre_crop", 9, converts_color=True),
    )
    export_onnx(Brightest(), path, example_size=(3, 8, 8), metadata=metadata)
    return path


@pytest.fixture(scope="module")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RecurrentNetwork]:
    torch.manual_seed(0)
    genotype = zoo["RECURRENT_DARTS_V2"]
    network = RecurrentNetwork(genotype, len(WORDS), embedding_dim=6, hidden_dim=6)
    for weight in network.parameters():
        nn.init.normal_(weight)
    path = tmp_path_factory.mktemp("text") / "best.onnx"
    metadata = ModelMetadata(
        genotype.to_json(), WORDS, layout="TB", output="log_probabilities", text=TextRule()
    )
    export_recurrent_onnx(network, path, metadata=metadata)
    return path, network.eval()


def png(colour: str, size: tuple[int, int] = (20, 12)) -> bytes:
    sink = BytesIO()
    Image.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def predicted(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert run(["predict", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_files_folders_and_parquet(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "one.png").write_bytes(png("red"))
    (tmp_path / "folder" / "inner" / "b.jpg").write_bytes(png("lime"))
    (tmp_path / "folder" / "a.png").write_bytes(png("blue", (8, 30)))
    (tmp_path / "folder" / "notes.txt").write_text("no picture, and not taken for one")
    write_parquet(tmp_path / "rows.parquet", [png("blue"), png("red")], [0, 1])
    results = predicted(
        capsys, model, tmp_path / "one.png", tmp_path / "folder", tmp_path / "rows.parquet"
    )
    assert [(Path(r["image"]).name, r["predictions"][0]["label"]) for r in results] == [
        ("one.png", "red"),
        ("a.png", "blue"),
        ("b.jpg", "green"),
        ("rows.parquet, row 0", "blue"),
        ("rows.parquet, row 1", "red"),
    ]
    # 1 and -1 after normalisation, times ten: the others have e^-20 of the winner's share.
    best = results[0]["predictions"]
    assert [len(best), best[0]["probability"]] == [3, pytest.approx(1, abs=1e-6)]


def test_many_pictures_go_in_batches_and_a_crop_is_made_once(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    files = []
    for number in range(35):
        pixels = draw.integers(0, 256, (13, 10, 3), dtype=np.uint8)
        files.append(tmp_path / f"{number:02d}.png")
        Image.fromarray(pixels).save(files[-1])
    results = predicted(capsys, model, tmp_path, "--top", 1)
    one_by_one = [OnnxNetwork(model).classify(file, top=1)[0][0] for file in files]
    assert [r["predictions"][0]["label"] for r in results] == [p.label for p in one_by_one]
    assert [r["predictions"][0]["probability"] for r in results] == pytest.approx(
        [p.probability for p in one_by_one], abs=1e-6
    )


def test_what_is_no_picture_is_one_line_and_exit_code_2(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.png").write_bytes(png("red"))
    (tmp_path / "bad.png").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:200])
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    for words, message in (
        ((model, tmp_path / "good.png", tmp_path / "bad.png"), "bad.png: is no picture"),
        ((model, tmp_path / "none.png"), "none.png: there is no such file"),
        ((model, tmp_path / "empty"), "holds no pictures"),
        ((model, tmp_path / "cut.parquet"), "cannot be read as Parquet"),
        ((tmp_path / "cut.onnx", tmp_path / "good.png"), "cut.onnx"),
        ((tmp_path / "bad.png", tmp_path / "good.png"), "is no ONNX file"),
        ((tmp_path / "none.onnx", tmp_path / "good.png"), "does not exist"),
    ):
        assert run(["predict", *map(str, words)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""  # nothing half-written
        assert message in printed.err
        assert "Traceback" not in printed.err


def test_a_language_model_scores_texts_as_torch_does(
    text_model: tuple[Path, RecurrentNetwork], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, network = text_model
    file = tmp_path / "some.txt"
    file.write_text("the cat sat\n\nthe dog sat\n" * 60)
    (result,) = predicted(capsys, path, file, "--top", 2)
    line = [2, 3, 4, 1, 1, 2, 0, 4, 1]  # dog is unknown; every line ends with <eos>
    tokens = torch.tensor(line * 60)
    with torch.no_grad():
        log_probs, _ = network(tokens[:, None], network.init_hidden(1))
    log_probs = log_probs.view(len(tokens), len(WORDS))
    loss = nn.functional.nll_loss(log_probs[:-1].double(), tokens[1:])
    assert result["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    assert (result["num_tokens"], result["num_unknown"]) == (540, 60)
    best = log_probs[-1].topk(2)
    assert [w["word"] for w in result["next_words"]] == [WORDS[i] for i in best.indices]
    assert [w["probability"] for w in result["next_words"]] == pytest.approx(
        best.values.exp().tolist(), abs=1e-5
    )


def test_a_text_without_the_vocabulary_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genotype = zoo["RECURRENT_DARTS_V2"]
    network = RecurrentNetwork(genotype, 3, embedding_dim=4, hidden_dim=4)
    metadata = ModelMetadata(
        genotype.to_json(), ("a", "b", "<eos>"), layout="TB", output="log_probabilities",
        text=TextRule(),
    )  # fmt: skip
    export_recurrent_onnx(network, tmp_path / "m.onnx", metadata=metadata)
    (tmp_path / "t.txt").write_text("a b c\n")
    assert run(["predict", str(tmp_path / "m.onnx"), str(tmp_path / "t.txt")]) == 2
    assert "t.txt: Word 3 of the text, 'c', is not in" in capsys.readouterr().err
    (tmp_path / "t.txt").write_bytes(b"a \xff b")
    assert run(["predict", str(tmp_path / "m.onnx"), str(tmp_path / "t.txt")]) == 2
    assert "not UTF-8" in capsys.readouterr().err


@pytest.fixture(scope="module")
def strict_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose training neither resized nor converted anything."""
    path = tmp_path_factory.mktemp("strict") / "best.onnx"
    metadata = ModelMetadata(
        zoo["DARTS_V2"].to_json(), ("red", "green", "blue"), mean=(0.5,) * 3, std=(0.5,) * 3,
        pictures=PictureRule((8, 8), "none"),
    )  # fmt: skip
    export_onnx(Brightest(), path, example_size=(3, 8, 8), metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("large.png", Image.new("RGB", (9, 8)), "8x9 pixels (height x width), the network takes"),
        ("gray.png", Image.new("L", (8, 8)), "is gray (mode L)"),
        ("deep.png", Image.new("I;16", (8, 8)), "more than 8 bits per pixel"),
    ],
)
def test_pictures_of_another_size_or_mode_are_refused_and_nothing_is_printed(
    strict_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    image: Image.Image,
    message: str,
) -> None:
    (tmp_path / "good.png").write_bytes(png("red", (8, 8)))
    image.save(tmp_path / name)
    words = [strict_model, tmp_path / "good.png", tmp_path / name, "--json"]
    assert run(["predict", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    said = " ".join(printed.err.split())
    assert name in said
    assert message in said


def test_an_onnx_file_of_somebody_else_is_refused(
    strict_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = load_proto(strict_model)
    del foreign.metadata_props[:]
    (tmp_path / "foreign.onnx").write_bytes(foreign.SerializeToString())
    (tmp_path / "good.png").write_bytes(png("red", (8, 8)))
    assert run(["predict", str(tmp_path / "foreign.onnx"), str(tmp_path / "good.png")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    said = " ".join(printed.err.split())
    assert "foreign.onnx" in said
    assert "not exported by darts_ray" in said


def test_a_column_without_parquet_is_no_option_to_ignore(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.png").write_bytes(png("red"))
    assert run(["predict", str(model), str(tmp_path / "one.png"), "--column", "img"]) == 2
    assert "--column: is for Parquet files" in capsys.readouterr().err
    write_parquet(tmp_path / "rows.parquet", [png("blue")], [0])
    assert len(predicted(capsys, model, tmp_path, "--column", "img")) == 2
