"""Exported files in other runtimes, each installed into an environment of its own.

`DARTS_CONSUMER_ENVS` names a folder that keeps the environments for the next time. With `-s` each
test prints a line of the table: runtime, version, network, largest difference at batch 1 and 5.
"""

from __future__ import annotations

import json
import os
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
    unroll_onnx,
    verify_onnx,
)
from darts_ray.export.inference import ImageInference
from darts_ray.nn import ConvNetwork, RecurrentNetwork
from darts_ray.space import zoo
from tests.export.conftest import fit_statistics, metadata_of
from tests.export.runtimes import (
    RUNTIMES,
    NotInstallableError,
    Runtime,
    install,
    read_output,
    run,
    write_feeds,
)

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
LENGTH = 9
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


@dataclass(frozen=True)
class Consumer:
    """A runtime in its environment."""

    name: str
    runtime: Runtime
    environment: Path

    def run(self, exported: Exported, folder: Path) -> Any:
        write_feeds(exported.feeds, folder)
        return run(self.runtime, self.environment, exported.files[self.runtime.opset], folder)


@pytest.fixture(scope="module", params=RUNTIMES)
def consumer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Consumer:
    name = request.param
    kept = os.environ.get("DARTS_CONSUMER_ENVS")
    folder = (Path(kept) if kept else tmp_path_factory.mktemp("environments")) / name
    try:
        install(RUNTIMES[name], folder)
    except NotInstallableError as error:
        pytest.skip(f"{name} cannot be installed here: {error}")
    return Consumer(name, RUNTIMES[name], folder)


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
def texts(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Exported]:
    torch.manual_seed(0)
    genotype = zoo["RECURRENT_DARTS_V2"]
    network = RecurrentNetwork(genotype, 50, embedding_dim=24, hidden_dim=24).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    words = (*(f"w{number}" for number in range(48)), "<eos>", "<unk>")
    metadata = ModelMetadata(
        genotype.to_json(), words, layout="TB", output="log_probabilities", text=TextRule()
    )
    folder = tmp_path_factory.mktemp("text")
    export_recurrent_onnx(network, folder / "loop.onnx", metadata=metadata)
    unroll_onnx(folder / "loop.onnx", folder / "unrolled.onnx", LENGTH)
    feeds, expected = {}, {}
    for size in (1, 5):
        tokens, hidden = torch.randint(0, 50, (LENGTH, size)), network.init_hidden(size)
        with torch.no_grad():
            expected[size] = network(tokens, hidden)[0].numpy()
        feeds[size] = {"tokens": tokens.numpy(), "hidden": hidden.numpy()}
    # There are no language models of opset 17, so those who want it get the other.
    return {
        form: Exported(dict.fromkeys((17, 20), folder / f"{form}.onnx"), feeds, expected)
        for form in ("loop", "unrolled")
    }


def check(consumer: Consumer, exported: Exported, folder: Path, what: str) -> None:
    done = consumer.run(exported, folder)
    assert done.returncode == 0, done.stderr[-2000:]
    version = json.loads(done.stdout.splitlines()[-1])
    differences = []
    for size, expected in exported.expected.items():
        actual = read_output(folder, size)
        assert actual.shape == expected.shape
        np.testing.assert_array_equal(actual.argmax(-1), expected.argmax(-1))
        differences.append(float(np.abs(actual - expected).max()))
    shown = " | ".join(f"{difference:.1e}" for difference in differences)
    print(f"\nTABLE | {consumer.name} {version} | {what} | {shown} |")
    assert max(differences) < TOLERANCE


@pytest.mark.parametrize("name", IMAGES)
def test_image_networks_compute_the_same_elsewhere(
    consumer: Consumer, images: Mapping[str, Exported], name: str, tmp_path: Path
) -> None:
    if consumer.runtime.opset not in images[name].files:
        pytest.skip("the export refuses this opset for this network")
    check(consumer, images[name], tmp_path, name)


@pytest.mark.parametrize("form", ["loop", "unrolled"])
def test_language_models_compute_the_same_or_are_refused(
    consumer: Consumer, texts: Mapping[str, Exported], form: str, tmp_path: Path
) -> None:
    runtime = consumer.runtime
    if runtime.reads_scan or (form == "unrolled" and runtime.reads_text):
        check(consumer, texts[form], tmp_path, form)
        return
    done = consumer.run(texts[form], tmp_path)
    assert done.returncode != 0  # a refusal, and no wrong numbers
    reason = " ".join(done.stderr.split())[-200:]
    print(f"\nTABLE | {consumer.name} | {form} | refused: {reason} |")
