import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image

from darts_ray.errors import ExportError
from darts_ray.export import ModelMetadata, OnnxNetwork, accuracy_onnx, load_proto
from darts_ray.space import Genotype, zoo
from tests.export.conftest import Exported


def test_metadata_is_read_back(exported: Exported) -> None:
    metadata = OnnxNetwork(exported.path).metadata
    assert metadata == exported.metadata
    assert Genotype.from_json(metadata.genotype_json) == zoo["DARTS_V2"]
    assert metadata.versions["torch"] == importlib.metadata.version("torch")
    assert (metadata.layout, metadata.value_range, metadata.color) == ("NCHW", "0..1", "RGB")


def test_metadata_can_be_read_without_this_package(exported: Exported) -> None:
    props = {prop.key: prop.value for prop in load_proto(exported.path).metadata_props}
    assert json.loads(props["darts.class_names"]) == ["a", "b", "c", "d", "e"]
    assert json.loads(props["darts.genotype"])["skeleton"] == "darts"
    assert json.loads(props["darts.mlflow_run_id"]) == "run-1"


def test_bytes_and_fractions_mean_the_same(exported: Exported) -> None:
    network = OnnxNetwork(exported.path, num_threads=1)
    logits = network.predict(exported.images)
    assert logits.shape == (48, 5)
    assert logits.dtype == np.float32
    fractions = exported.images.numpy().astype(np.float32) / 255
    np.testing.assert_array_equal(network.predict(fractions), logits)


def test_images_are_those_of_training(exported: Exported) -> None:
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (exported.metadata.mean, exported.metadata.std)
    )
    exported.network.eval()
    with torch.no_grad():
        expected = exported.network((exported.images / 255 - mean) / std)
    exported.network.train()
    actual = OnnxNetwork(exported.path).predict(exported.images)
    np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5)


def test_accuracy_counts_over_batches(exported: Exported) -> None:
    labels = torch.tensor(OnnxNetwork(exported.path).predict(exported.images).argmax(1))
    assert len(labels.unique()) == 5
    labels[:12] = (labels[:12] + 1) % 5  # 12 of 48 wrong
    assert accuracy_onnx(exported.path, exported.images, labels, batch_size=7) == 0.75


@pytest.fixture
def picture(exported: Exported, tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(exported.images[0].permute(1, 2, 0).numpy()).save(path)
    return path


def test_paths_pictures_bytes_and_arrays_mean_the_same(exported: Exported, picture: Path) -> None:
    network = OnnxNetwork(exported.path)
    expected = network.predict(exported.images[:1])
    array = np.asarray(Image.open(picture))  # (height, width, channels)
    for given in (picture, str(picture), picture.read_bytes(), Image.open(picture), array):
        np.testing.assert_array_equal(network.predict(given), expected)
        np.testing.assert_array_equal(network.predict([given, given]), np.repeat(expected, 2, 0))


def test_classes_come_with_their_probability(exported: Exported, picture: Path) -> None:
    network = OnnxNetwork(exported.path)
    (best,) = network.classify(picture, top=3)
    logits = torch.tensor(network.predict(picture))[0]
    order = logits.argsort(descending=True)[:3].tolist()
    assert [prediction.label for prediction in best] == ["abcde"[index] for index in order]
    shares = logits.double().softmax(0)[order].tolist()
    assert [prediction.probability for prediction in best] == pytest.approx(shares, abs=1e-6)


def test_floats_outside_of_0_to_1_are_refused(exported: Exported) -> None:
    network = OnnxNetwork(exported.path)
    bytes_as_floats = exported.images.numpy().astype(np.float32)
    with pytest.raises(ExportError, match=r"values from \d+ to 2\d\d.*divide bytes by 255"):
        network.predict(bytes_as_floats)
    normalised = bytes_as_floats / 127.5 - 1
    with pytest.raises(ExportError, match=r"must lie in 0\.\.1"):
        network.predict(normalised)
    with pytest.raises(ExportError, match="nan"):
        network.predict(np.full((1, 3, 32, 32), np.nan, np.float32))
    with pytest.raises(ExportError, match="not int64"):
        network.predict(exported.images.long())


def test_no_picture_is_one_clear_error(exported: Exported, tmp_path: Path) -> None:
    network = OnnxNetwork(exported.path)
    text = tmp_path / "notes.png"
    text.write_text("no picture")
    with pytest.raises(ExportError, match=r"notes\.png: is no picture"):
        network.predict(text)
    with pytest.raises(ExportError, match=r"none\.png: there is no such file"):
        network.predict(tmp_path / "none.png")
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(deep)
    with pytest.raises(ExportError, match="more than 8 bits"):
        network.predict(deep)


def test_using_a_file_needs_neither_torch_nor_onnx(exported: Exported, picture: Path) -> None:
    program = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "onnxscript", "ray", "mlflow", "pandas",
                                      "pyarrow", "pydantic", "torchvision", "scipy", "sklearn"}:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Absent())
from darts_ray.export import OnnxNetwork
network = OnnxNetwork(sys.argv[1])
print(network.classify(sys.argv[2], top=1)[0][0].label)
"""
    words = [sys.executable, "-c", program, str(exported.path), str(picture)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = OnnxNetwork(exported.path).classify(picture, top=1)[0][0].label
    assert done.stdout.split() == [expected]


def test_wrong_images_are_refused(exported: Exported) -> None:
    network = OnnxNetwork(exported.path)
    with pytest.raises(ExportError, match=r"\(3, 32, 32\), not \(3, 28, 28\)"):
        network.predict(torch.zeros(1, 3, 28, 28))
    with pytest.raises(ExportError, match="NCHW"):
        network.predict(torch.zeros(3, 32, 32))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not exist"):
        OnnxNetwork(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(ExportError, match="cannot read"):
        OnnxNetwork(tmp_path / "text.onnx")
    shape = helper.make_tensor_value_info("images", TensorProto.FLOAT, (1,))
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))
    graph = helper.make_graph([helper.make_node("Relu", ["images"], ["y"])], "g", [shape], [other])
    opset = helper.make_opsetid("", 20)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    onnx.save_model(model, str(tmp_path / "foreign.onnx"))
    with pytest.raises(ExportError, match="not exported by darts_ray"):
        OnnxNetwork(tmp_path / "foreign.onnx")


def test_metadata_round_trip_keeps_every_field() -> None:
    metadata = ModelMetadata('{"kind": "x"}', ("ä", "b"), (0.1,), (0.2,), "NCHW", "0..1", "gray")
    assert ModelMetadata.from_props(metadata.to_props()) == metadata
