"""The copy-paste consumer is run as it stands on the card, in a process without darts_ray."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from darts_ray.export import (
    ModelMetadata,
    OnnxLanguageModel,
    OnnxNetwork,
    PictureRule,
    TextRule,
    export_onnx,
    export_recurrent_onnx,
)
from darts_ray.export.consumer.snippet import snippet
from darts_ray.nn import RecurrentNetwork
from darts_ray.space import zoo

BYTES = {"dtype": "uint8", "layout": "NHWC", "value_range": "0..255"}
FORMS: dict[str, dict[str, Any]] = {
    "centre_crop": {"pictures": PictureRule((8, 8), "centre_crop", 9)},
    "bytes": {"pictures": PictureRule((8, 8), "stretch"), "output": "probabilities", **BYTES},
    "gray": {"pictures": PictureRule((8, 8), "stretch"), "color": "gray"},
}


def run(code: str, folder: Path) -> list[str]:
    assert len(code.splitlines()) <= 15
    assert max(map(len, code.splitlines())) <= 99
    blocked = "import sys; sys.modules.update(darts_ray=None, torch=None, onnx=None)\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + code],
        capture_output=True, text=True, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("form", FORMS)
def test_pictures(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    channels = 1 if form == "gray" else 3
    network = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    metadata = ModelMetadata(
        zoo["DARTS_V2"].to_json(), ("red", "green", "blue"),
        mean=(0.5,) * channels, std=(0.2,) * channels,
    )  # fmt: skip
    metadata = dataclasses.replace(metadata, **FORMS[form])
    path = tmp_path / "best.onnx"
    export_onnx(network, path, example_size=(channels, 8, 8), metadata=metadata)
    pixels = np.random.default_rng(0).integers(0, 256, (11, 17, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert("L" if form == "gray" else "RGB")
    picture.save(tmp_path / "picture.png")
    label, share = run(snippet(metadata, "best.onnx"), tmp_path)
    (best,) = OnnxNetwork(path).classify(tmp_path / "picture.png", top=1)
    assert label == best[0].label
    assert float(share) == pytest.approx(best[0].probability, abs=1e-6)


def test_texts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = ("<unk>", "<eos>", "the", "cat", "sat")
    network = RecurrentNetwork(zoo["RECURRENT_DARTS_V2"], 5, embedding_dim=6, hidden_dim=6)
    for weight in network.parameters():
        nn.init.normal_(weight)
    metadata = ModelMetadata(
        zoo["RECURRENT_DARTS_V2"].to_json(), words,
        layout="TB", output="log_probabilities", text=TextRule(),
    )  # fmt: skip
    export_recurrent_onnx(network, tmp_path / "best.onnx", metadata=metadata)
    text = "the cat sat\n\nthe dog sat\n"
    (tmp_path / "text.txt").write_text(text)
    printed = run(snippet(metadata, "best.onnx"), tmp_path)
    score = OnnxLanguageModel(tmp_path / "best.onnx").score(text)
    assert float(printed[1]) == pytest.approx(score.perplexity, rel=1e-5)
    assert printed[-1] == score.next_words[0].label
