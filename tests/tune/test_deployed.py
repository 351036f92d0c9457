"""The network's ONNX file in the one pass over the test set."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darts_ray.config import ExportSection
from darts_ray.data import ImageSplit
from darts_ray.errors import ConfigError
from darts_ray.export import OnnxNetwork, export_onnx
from darts_ray.export.onnx_file import graph_digest
from darts_ray.study.run.contract import model_contract
from darts_ray.train import load_checkpoint
from darts_ray.tune import RetrainTrainable
from darts_ray.tune.deployed import DeployedRun
from tests.train.conftest import image_config, image_split, make_images

NUM_TEST = 10  # the last batch is smaller than the others


@pytest.mark.parametrize(
    "form", [{}, {"input": "uint8_nhwc", "output": "probabilities", "opset": 19}]
)
def test_the_exported_file_has_seen_the_test_set_in_the_networks_pass(
    tmp_path: Path, form: dict[str, Any]
) -> None:
    torch.set_num_threads(1)
    test, opened = image_split(NUM_TEST, seed=5), []

    def open_test() -> ImageSplit:
        opened.append(1)
        return test

    section = ExportSection(**form)
    config = image_config(epochs=1, network={"layers": 1})
    run = DeployedRun(config, make_images(open_test=open_test), form=section)
    run.run_epoch()
    with torch.no_grad():  # every class occurs
        logits = run.network.eval()((test.images / 255 - 0.5) / 0.25)
        run.network.classifier.bias -= logits.mean(0)
    plain = DeployedRun(run.config, make_images(open_test=open_test))
    plain.load_state_dict(run.state_dict())
    assert run.test() == plain.test()
    assert len(opened) == 2  # once each
    assert plain.test_predictions.keys() < run.test_predictions.keys()

    # as the export stage does it
    run.save(tmp_path / "network.pt")
    checkpoint = load_checkpoint(tmp_path / "network.pt")
    contract = model_contract(checkpoint, section, "run-1")
    best = tmp_path / "best.onnx"
    export_onnx(
        checkpoint.network, best, example_size=(3, 8, 8), metadata=contract, opset=section.opset
    )
    seen = run.test_predictions
    assert seen["file_digest"].numpy().tobytes() == graph_digest(best)
    expected = OnnxNetwork(best).predict(test.images).argmax(1)
    np.testing.assert_array_equal(seen["file_predicted"].numpy(), expected)
    assert len(set(expected.tolist())) > 1
    np.testing.assert_array_equal(seen["label"].numpy(), test.labels.numpy())


def test_a_network_without_a_file_is_tested_alone(caplog: pytest.LogCaptureFixture) -> None:
    data = make_images(size=13, open_test=lambda: image_split(NUM_TEST, 13))
    # onnx has no adapter to opset 17 for the Pad that odd sizes bring
    config = image_config(epochs=1, network={"layers": 2})
    run = DeployedRun(config, data, form=ExportSection(opset=17))
    run.run_epoch()
    with caplog.at_level(logging.WARNING):
        assert 0 <= run.test()["test_accuracy"] <= 1
    assert "has no file: onnx cannot convert" in caplog.text
    assert "file_predicted" not in run.test_predictions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"export": {"opset": 3}}, "opset"),
        ({"export": {"quantize": True}}, r"export\.quantize: unknown key"),
        ({"export": {}, "test_at_end": False}, "that test at the end"),
        ({"export": {}, "data": {"source": "english"}}, "is for retrainings on images"),
    ],
)
def test_a_form_that_nothing_can_be_made_of_is_an_error(
    changes: dict[str, Any], message: str
) -> None:
    values = {"genotype": "DARTS_V2", "data": {"source": "digits"}, **changes}
    if values["data"] != {"source": "digits"}:
        values["genotype"] = "RECURRENT_DARTS_V2"
    with pytest.raises(ConfigError, match=message):
        RetrainTrainable.parse(values)
