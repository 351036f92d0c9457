import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from darts_ray.export import ModelMetadata, PictureRule
from darts_ray.study.files.exported import Int8File
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import load_study, read_record, write_record
from darts_ray.study.report import deployment
from darts_ray.study.report.model_card import write_model_card
from darts_ray.study.report.page import render_report
from darts_ray.study.report.statistics.classes import class_report
from tests.study.fabricated import finished_image_study

NAMES = ("cat", "dog", "owl")


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    folder = finished_image_study(tmp_path)
    record = read_record(folder)
    assert record.export is not None
    assert record.winner is not None
    first, *others = record.retrain
    checkpoint = f"retrain/{first.trial}/checkpoint"
    first = replace(first, checkpoint=checkpoint)
    int8 = Int8File(
        file="best-int8.onnx", size_bytes=2**20, accuracy=0.91, float_accuracy=0.915,
        judged_on="500 held-out images",
    )  # fmt: skip
    export = replace(record.export, int8=int8)
    write_record(folder, replace(record, retrain=(first, *others), export=export))
    sink = io.BytesIO()
    np.savez(
        sink,
        label=np.array([0, 0, 1, 1, 2]),
        predicted=np.array([0, 1, 1, 1, 0]),
        confidence=np.array([0.9, 0.6, 0.9, 0.9, 0.5]),
        margin=np.array([2.0, 2 * record.export.max_difference, 3.0, 1.0, 0.5]),
    )
    folder.write_bytes(f"{checkpoint}/test_predictions.npz", sink.getvalue())
    speed = {"batch_size": 1, "num_threads": 1, "median_ms": 1.25, "p95_ms": 2.5}
    speeds = {"best.onnx": [{**speed, "images_per_second": 800.0}]}
    content = {"cpu": "Some CPU", "onnxruntime": "1.32", "files": speeds}
    folder.write_text("speed.json", json.dumps(content))
    metadata = ModelMetadata(
        record.winner.genotype.to_json(),
        NAMES, (0.5,) * 3, (0.2,) * 3, pictures=PictureRule((32, 32), "stretch"),
    )  # fmt: skip
    folder.write_bytes("example.png", b"")
    folder.write_text("best.json", metadata.to_sidecar("best.onnx", {}, {}))
    return folder


@pytest.fixture
def card(folder: StudyFolder) -> str:
    write_model_card(folder)
    return folder.read_text("model_card.md")


def test_card_says_what_the_model_is(card: str) -> None:
    for said in (
        "Image classifier with 3 classes",
        "Licence of the data: not stated",
        "over 2 seeds: 97.50 ± 0.71 %",  # 97 and 98
        "test accuracy is 60.00 %, give or take 20.00 points: on 1 of the 5 test images",
        "3.35M parameters",
        "costs 0.50 points of accuracy (91.50 to 91.00 %) on 500 held-out images",
        "on Some CPU",
        "| `best.onnx` | 1 | 1 | 1.25 | 2.5 | 800 |",
        "image = image.resize((32, 32), Image.Resampling.BILINEAR)",
        "![normal cell](data:image/svg+xml;base64,",
        "has the best select accuracy",
    ):
        assert said in card, said


def test_classes_come_from_the_one_pass_over_the_test_set(card: str) -> None:
    assert "| cat | 2 | 50.0 | dog (1) |" in card
    assert "| dog | 2 | 100.0 | - |" in card
    assert "| owl | 1 | 0.0 | cat (1) |" in card
    assert (
        "`example.png`, to try them on, is the first picture of the test set, of class cat."
        in card
    )
    assert "![Confusion matrix](data:image/png;base64,iVBOR" in card
    # Bins: 0.9 holds three right ones (gap 0.3 in all), 0.6 one wrong, 0.5 one wrong: 1.4 / 5.
    assert "calibration error: 28.00 %" in card


def test_the_report_has_speed_confusions_and_the_files_accuracy(folder: StudyFolder) -> None:
    page = render_report(load_study(folder.uri))
    assert "on Some CPU" in page
    assert '<td class="n">1.25</td>' in page
    assert "91.00 % against\n91.50 %" in page
    assert 'alt="Confusion matrix of the test set"' in page
    assert "give or take 20.00 points" in page


def test_a_file_cannot_swap_classes_that_are_further_apart(folder: StudyFolder) -> None:
    record = read_record(folder)
    assert record.export is not None
    write_record(folder, replace(record, export=replace(record.export, max_difference=1e-9)))
    write_model_card(folder)
    assert "has the same test accuracy, 60.00 %" in folder.read_text("model_card.md")


@pytest.mark.parametrize("is_the_same", [True, False])
def test_the_files_own_accuracy_is_given_if_it_was_the_file_that_saw_the_test_set(
    folder: StudyFolder, is_the_same: bool
) -> None:
    record = read_record(folder)
    assert record.export is not None
    digest = bytes(range(32))
    graph = digest.hex() if is_the_same else "00" * 32
    write_record(folder, replace(record, export=replace(record.export, graph=graph)))
    place = f"{record.retrain[0].checkpoint}/test_predictions.npz"
    kept = dict(np.load(io.BytesIO(folder.read_bytes(place))))
    sink = io.BytesIO()
    # torch says 0 1 1 1 0, the labels are 0 0 1 1 2
    ours = {"file_predicted": np.array([0, 0, 1, 1, 0])}
    np.savez(sink, **kept, **ours, file_digest=np.frombuffer(digest, np.uint8))
    folder.write_bytes(place, sink.getvalue())
    result = deployment.tested(load_study(folder.uri))
    assert result is not None
    said = deployment.onnx_accuracy(result)
    measured = (
        "Test accuracy of the ONNX file itself: 80.00 %, of the network in torch 60.00 %, in the"
        " same pass over the test set; they name another class on 1 of its 5 images."
    )
    assert (said == measured) == is_the_same
    assert ("give or take 20.00 points" in said) != is_the_same


def test_a_class_that_does_not_occur_has_no_accuracy() -> None:
    label = np.array([0, 0])
    report = class_report(label, label, np.array([1.0, 1.0]), 2)
    assert report.confusion.tolist() == [[2, 0], [0, 0]]
    assert report.accuracy[0] == 1
    assert np.isnan(report.accuracy[1])
    assert report.calibration_error == 0
