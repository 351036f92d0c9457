"""Exported files in other runtimes, each installed into a virtual environment of its own.

`DARTS_CONSUMER_ENVS` names a folder that keeps the environments for the next time. With `-s` each
test prints a line of the table: runtime, version, network, largest difference at batch 1 and 5.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darts_ray.errors import ExportError
from darts_ray.export import (
    ModelMetadata,
    TextRule,
    export_onnx,
    export_recurrent_onnx,
    verify_onnx,
)
from darts_ray.export.inference import ImageInference
from darts_ray.nn import ConvNetwork, RecurrentNetwork
from darts_ray.space import zoo
from tests.export.conftest import fit_statistics, metadata_of

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
INSTALL_S = 300

_ONNXRUNTIME = """
import onnxruntime
version = onnxruntime.__version__
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
run = lambda feed: session.run(None, feed)[0]
"""
_OPENCV = """
import cv2
version = cv2.__version__
network = cv2.dnn.readNetFromONNX(file)
def run(feed):
    network.setInput(feed["images"])
    return network.forward()
"""
_OPENVINO = """
import openvino
version = openvino.__version__
hint = {"INFERENCE_PRECISION_HINT": "f32"}
compiled = openvino.compile_model(openvino.Core().read_model(file), "CPU", hint)
run = lambda feed: compiled(feed)[0]
"""
_ONNX2TORCH = """
import importlib.metadata, torch, onnx2torch
version = importlib.metadata.version("onnx2torch")
network = onnx2torch.convert(file).eval()
def run(feed):
    with torch.no_grad():
        return network(*map(torch.from_numpy, feed.values())).numpy()
"""
_PROGRAM = """
import json, sys
import numpy as np
file, folder = sys.argv[1:]
%s
for size in (1, 5):
    feed = dict(np.load(f"{folder}/feed{size}.npz"))
    np.save(f"{folder}/out{size}.npy", run(feed))
print(json.dumps(version))
"""


@dataclass(frozen=True)
class Consumer:
    """A runtime.

    Attributes:
        packages: what pip installs; none: the runtime of this environment.
        code: defines `version` and `run(feed) -> outputs`.
        opset: of the file.
        sees_ours: whether it needs packages of this environment too.
        reads_scan: whether it knows the loop of a recurrent network.
    """

    packages: tuple[str, ...]
    code: str
    opset: int = 20
    sees_ours: bool = False
    reads_scan: bool = False


CONSUMERS = {
    "onnxruntime": Consumer((), _ONNXRUNTIME, reads_scan=True),
    "onnxruntime-1.17": Consumer(
        ("onnxruntime==1.17.3", "numpy<2"), _ONNXRUNTIME, reads_scan=True
    ),
    "opencv-4": Consumer(("opencv-python-headless<5",), _OPENCV),
    "opencv-5": Consumer(("opencv-python-headless>=5",), _OPENCV),
    "openvino": Consumer(("openvino",), _OPENVINO, reads_scan=True),
    "onnx2torch": Consumer(("onnx2torch",), _ONNX2TORCH, opset=17, sees_ours=True),
}
IMAGES: dict[str, dict[str, Any]] = {
    "quickstart": {"cell": "DARTS_V1", "channels": 12, "layers": 3, "size": (1, 8, 8)},
    "DARTS_V2": {"cell": "DARTS_V2", "channels": 8, "layers": 5, "size": (3, 32, 32)},
    "odd": {"cell": "DARTS_V2", "channels": 6, "layers": 5, "size": (3, 25, 25)},
}


@dataclass(frozen=True)
class Exported:
    """A file per opset, what goes in and what torch makes of it, by batch size."""

    files: Mapping[int, Path]
    feeds: Mapping[int, dict[str, np.ndarray[Any, Any]]]
    expected: Mapping[int, np.ndarray[Any, Any]]


@pytest.fixture(scope="module", params=CONSUMERS)
def consumer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    name = request.param
    kept = os.environ.get("DARTS_CONSUMER_ENVS")
    folder = (Path(kept) if kept else tmp_path_factory.mktemp("environments")) / name
    return name, CONSUMERS[name], _python(folder, CONSUMERS[name])


def _python(folder: Path, consumer: Consumer) -> Path:
    """Return the interpreter of an environment that has the runtime."""
    if not consumer.packages:
        return Path(sys.executable)
    done = folder / "installed"
    python = folder / "bin" / "python"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True, system_site_packages=consumer.sees_ours)
        words = [python, "-m", "pip", "install", "-q", *consumer.packages]
        try:
            subprocess.run(words, check=True, timeout=INSTALL_S, capture_output=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"pip cannot install {', '.join(consumer.packages)} here: {error}")
        done.touch()
    return python


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Exported]:
    return {name: _exported(name, tmp_path_factory.mktemp(name)) for name in IMAGES}


def _exported(name: str, folder: Path) -> Exported:
    form = IMAGES[name]
    torch.manual_seed(0)
    channels = form["size"][0]
    genotype = zoo[form["cell"]]
    network = ConvNetwork(
        genotype, form["channels"], 5, form["layers"], auxiliary=False, in_channels=channels
    )
    metadata = metadata_of(genotype)
    metadata = replace(metadata, mean=metadata.mean[:channels], std=metadata.std[:channels])
    pixels = torch.randint(0, 256, (32, *form["size"])) // torch.randint(1, 9, (32, 1, 1, 1))
    pixels = pixels.to(torch.uint8)
    fit_statistics(network, metadata, pixels)
    files = {opset: folder / f"{opset}.onnx" for opset in (17, 20)}
    if name == "odd":  # onnx has no adapter to 17 for its Pad
        with pytest.raises(ExportError, match=r"cannot convert .* export\.opset to 18"):
            export_onnx(
                network, files.pop(17), example_size=form["size"], metadata=metadata, opset=17
            )
    for opset, file in files.items():
        export_onnx(network, file, example_size=form["size"], metadata=metadata, opset=opset)
        assert verify_onnx(file, network, pixels).max_difference <= TOLERANCE
    batches = {size: pixels[:size].float() / 255 for size in (1, 5)}
    with torch.no_grad():
        inference = ImageInference(network, metadata)
        expected = {size: inference(batch).numpy() for size, batch in batches.items()}
    return Exported(files, {s: {"images": b.numpy()} for s, b in batches.items()}, expected)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    genotype = zoo["RECURRENT_DARTS_V2"]
    network = RecurrentNetwork(genotype, 50, embedding_dim=24, hidden_dim=24).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    words = (*(f"w{number}" for number in range(48)), "<eos>", "<unk>")
    metadata = ModelMetadata(
        genotype.to_json(), words, layout="TB", output="log_probabilities", text=TextRule()
    )
    file = tmp_path_factory.mktemp("text") / "20.onnx"
    export_recurrent_onnx(network, file, metadata=metadata)
    feeds, expected = {}, {}
    for size in (1, 5):
        tokens, hidden = torch.randint(0, 50, (9, size)), network.init_hidden(size)
        with torch.no_grad():
            expected[size] = network(tokens, hidden)[0].numpy()
        feeds[size] = {"tokens": tokens.numpy(), "hidden": hidden.numpy()}
    return Exported({20: file, 17: file}, feeds, expected)


def consume(
    consumer: tuple[str, Consumer, Path], exported: Exported, folder: Path
) -> subprocess.CompletedProcess[str]:
    _, how, python = consumer
    for size, feed in exported.feeds.items():
        np.savez(folder / f"feed{size}.npz", **feed)  # type: ignore[arg-type]
    words = [python, "-c", _PROGRAM % how.code, exported.files[how.opset], folder]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=folder, env=clean, timeout=200
    )


def check(
    consumer: tuple[str, Consumer, Path], exported: Exported, folder: Path, what: str
) -> None:
    done = consume(consumer, exported, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    version = json.loads(done.stdout.splitlines()[-1])
    differences = []
    for size, expected in exported.expected.items():
        actual = np.load(folder / f"out{size}.npy")
        assert actual.shape == expected.shape
        np.testing.assert_array_equal(actual.argmax(-1), expected.argmax(-1))
        differences.append(float(np.abs(actual - expected).max()))
    shown = " | ".join(f"{difference:.1e}" for difference in differences)
    print(f"\nTABLE | {consumer[0]} {version} | {what} | {shown} |")
    assert max(differences) < TOLERANCE


@pytest.mark.parametrize("name", IMAGES)
def test_image_networks_compute_the_same_elsewhere(
    consumer: tuple[str, Consumer, Path], images: Mapping[str, Exported], name: str, tmp_path: Path
) -> None:
    if consumer[1].opset not in images[name].files:
        pytest.skip("the export refuses this opset for this network")
    check(consumer, images[name], tmp_path, name)


def test_language_models_compute_the_same_where_loops_are_known(
    consumer: tuple[str, Consumer, Path], text: Exported, tmp_path: Path
) -> None:
    if consumer[1].reads_scan:
        check(consumer, text, tmp_path, "recurrent")
        return
    done = consume(consumer, text, tmp_path)
    assert done.returncode != 0  # a refusal, and no wrong numbers
    print(f"\nTABLE | {consumer[0]} | recurrent | refused |")
