"""The export stage's work: from a retraining's weights to files that are proven to agree."""

from __future__ import annotations

import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from darts_ray.config import ExportSection
from darts_ray.data import ImageData, TextData, split_indices
from darts_ray.errors import ExportError
from darts_ray.export import (
    ModelMetadata,
    VerifyResult,
    benchmark_files,
    example_picture,
    export_onnx,
    export_program,
    export_recurrent_onnx,
    quantize_onnx,
    unroll_onnx,
    verify_onnx,
    verify_recurrent_onnx,
)
from darts_ray.export.onnx_file import graph_digest, sidecar
from darts_ray.study.files.exported import (
    EXAMPLE_FILE,
    EXPORTED_FILES,
    INT8_FILE,
    INT8_SIDECAR_FILE,
    ONNX_FILE,
    PROGRAM_FILE,
    SIDECAR_FILE,
    SPEED_FILE,
    UNROLLED_FILE,
    UNROLLED_SIDECAR_FILE,
    WEIGHTS_FILE,
    Exported,
    Int8File,
    ProgramFile,
    UnrolledFile,
)
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import RetrainEntry
from darts_ray.study.report.deployment import PREDICTIONS_FILE
from darts_ray.study.run.contract import model_contract, read_network
from darts_ray.study.run.registering import describe, register_files
from darts_ray.tracking import Registration, StudyTracker
from darts_ray.train import Checkpoint

NETWORK_FILE = "network.pt"
"""The deployable network inside a retraining's checkpoint folder."""

NUM_VERIFIED = 32
NUM_CALIBRATION = 256
NUM_JUDGED = 2048
TEXT_LENGTH, NUM_TEXTS = 35, 7


@dataclass(frozen=True)
class _Export:
    """One export at work.

    Attributes:
        place: a temporary folder; files go from there into the study folder once they passed.
        size: (channels, height, width) of images; None for text.
        held_out: training images that the network has not learned from; None: there are none.
    """

    folder: StudyFolder
    place: Path
    section: ExportSection
    data: ImageData | TextData
    checkpoint: Checkpoint
    metadata: ModelMetadata
    size: tuple[int, int, int] | None
    held_out: Tensor | None


def export_network(
    folder: StudyFolder,
    entry: RetrainEntry,
    section: ExportSection,
    data: ImageData | TextData,
    tracker: StudyTracker | None,
    registration: Registration,
) -> Exported:
    """Write the exported files into the study folder; return what the record says of them.

    The ONNX file is compared with torch on held-out images where there are any, else on training
    images (of a text, on its validation part). A file appears in the study folder only after it
    has passed, and no file of an earlier export stays.

    Args:
        folder: the study.
        entry: the retraining to export, with its checkpoint's place in the folder.
        section: opset, input and output, tolerance, quantisation.
        data: the study's data; the test set is not read.
        tracker: where the model is registered; None: nowhere.
        registration: its name there, and what decides whether it becomes the champion.

    Raises:
        ExportError: the file does not compute what the network computes.
        CheckpointError: the retraining's checkpoint cannot be read.
    """
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary, WEIGHTS_FILE)
        checkpoint = read_network(folder, f"{entry.checkpoint}/{NETWORK_FILE}", weights)
        metadata = model_contract(checkpoint, section, _run_id(tracker))
        work = _Export(
            folder,
            Path(temporary),
            section,
            data,
            checkpoint,
            metadata,
            (data.info.channels, *data.info.image_size) if isinstance(data, ImageData) else None,
            _held_out(data, checkpoint),
        )
        onnx = work.place / ONNX_FILE
        verified, checked_on = _write_onnx(work, onnx)
        (work.place / SIDECAR_FILE).write_text(sidecar(onnx), encoding="utf-8")
        exported = Exported(
            file=ONNX_FILE,
            sidecar=SIDECAR_FILE,
            trial=entry.trial,
            seed=entry.seed,
            opset=section.opset,
            tolerance=section.tolerance,
            max_difference=verified.max_difference,
            batch_sizes=verified.batch_sizes,
            num_checked=verified.num_inputs,
            checked_on=checked_on,
            size_bytes=onnx.stat().st_size,
            graph=graph_digest(onnx).hex(),
            program=_program(work) if section.program else None,
            int8=_int8(work, onnx) if section.quantize else None,
            unrolled=_unrolled(work, onnx, section.unrolled_length),
        )
        _measure_speed(work.place, section)
        _write_example(work, f"{entry.checkpoint}/{PREDICTIONS_FILE}")
        _publish(folder, work.place)
        if tracker is not None:
            tracker.log_checkpoint(None, weights)
            example = None if work.size is None else _some_images(work, 1)[0][0]
            described = describe(registration, checkpoint, metadata, data.info, example)
            exported = register_files(tracker, work.place, described, metadata, exported)
    return exported


def _run_id(tracker: StudyTracker | None) -> str | None:
    if tracker is None:
        return None
    tracker.flush()  # the run is known once the server has answered
    return tracker.run_id


def _write_onnx(work: _Export, onnx: Path) -> tuple[VerifyResult, str]:
    """Write the ONNX file and compare it; return also what it was compared on."""
    network, section = work.checkpoint.network, work.section
    if isinstance(work.data, TextData):
        export_recurrent_onnx(network, onnx, metadata=work.metadata, opset=section.opset)
        tokens = _texts(work.data, TEXT_LENGTH)
        verified = verify_recurrent_onnx(onnx, network, tokens, tolerance=section.tolerance)
        return verified, f"texts of {len(tokens)} words from the validation part"
    assert work.size is not None
    export_onnx(network, onnx, example_size=work.size, metadata=work.metadata, opset=section.opset)
    images, _ = _some_images(work, NUM_VERIFIED)
    verified = verify_onnx(onnx, network, images, tolerance=section.tolerance)
    return verified, "training images" if work.held_out is None else "held-out images"


def _measure_speed(place: Path, section: ExportSection) -> None:
    """Write speed.json, a file of its own: the record holds only what a second run would find."""
    if not section.benchmark_seconds:
        return
    files = [place / name for name in (ONNX_FILE, INT8_FILE, UNROLLED_FILE)]
    content = benchmark_files([f for f in files if f.exists()], seconds=section.benchmark_seconds)
    (place / SPEED_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _write_example(work: _Export, predictions: str) -> None:
    """Write a picture to try the file on: the first of the test set, kept in the pass over it."""
    rule = work.metadata.pictures
    if rule is None or not work.folder.has(predictions):
        return
    with np.load(io.BytesIO(work.folder.read_bytes(predictions)), allow_pickle=False) as kept:
        if "example" in kept:  # retrainings of older versions kept none
            (work.place / EXAMPLE_FILE).write_bytes(example_picture(kept["example"], rule))


def _program(work: _Export) -> ProgramFile:
    """Write the torch.export program; a refusal is part of the result, no error."""
    path = work.place / PROGRAM_FILE
    try:
        difference = export_program(
            work.checkpoint.network,
            path,
            example_size=work.size,
            metadata=work.metadata,
            tolerance=work.section.tolerance,
        )
    except ExportError as error:
        return ProgramFile(error=str(error))
    return ProgramFile(None, PROGRAM_FILE, difference)


def _unrolled(work: _Export, onnx: Path, length: int | None) -> UnrolledFile | None:
    """Write the language model's file for one length, and compare it too."""
    if length is None:
        return None
    assert isinstance(work.data, TextData)
    path = work.place / UNROLLED_FILE
    unroll_onnx(onnx, path, length)
    (work.place / UNROLLED_SIDECAR_FILE).write_text(sidecar(path), encoding="utf-8")
    texts, tolerance = _texts(work.data, 2 * length), work.section.tolerance
    verified = verify_recurrent_onnx(path, work.checkpoint.network, texts, tolerance=tolerance)
    return UnrolledFile(UNROLLED_FILE, length, verified.max_difference)


def _texts(data: TextData, length: int) -> Tensor:
    """Return texts from the validation part (length, texts), which may repeat if that is short."""
    rows = torch.arange(length * NUM_TEXTS) % len(data.valid)
    return data.valid[rows].reshape(NUM_TEXTS, length).T.contiguous()


def _int8(work: _Export, onnx: Path) -> Int8File:
    """Write the int8 file if it passes its gate; a refusal is part of the result, no error.

    The test set may not decide anything; so the gate compares both files on held-out images, or
    where the retraining has learned from all, on training images, and says so. Calibration has
    other images than the gate.
    """
    target = work.section.int8_target
    images, labels = _some_images(work, NUM_CALIBRATION + NUM_JUDGED)
    cut = min(NUM_CALIBRATION, len(images) // 2)
    path = work.place / INT8_FILE
    try:
        result = quantize_onnx(
            onnx,
            path,
            calibration=images[:cut],
            images=images[cut:],
            labels=labels[cut:],
            max_accuracy_drop=work.section.max_accuracy_drop,
            target=target,
        )
    except ExportError as error:
        return Int8File(error=str(error), target=target)
    (work.place / INT8_SIDECAR_FILE).write_text(sidecar(path), encoding="utf-8")
    number = len(images) - cut
    judged_on = (
        f"{number} training images, which the network has learned from, as none are held out"
        if work.held_out is None
        else f"{number} held-out images"
    )
    return Int8File(
        file=INT8_FILE,
        target=target,
        size_bytes=result.int8_size_bytes,
        accuracy=result.int8_accuracy,
        float_accuracy=result.accuracy,
        judged_on=judged_on,
    )


def _publish(folder: StudyFolder, place: Path) -> None:
    """Put the files that there are into the study folder, and remove those there are not."""
    for name in EXPORTED_FILES:
        if (place / name).exists():
            folder.write_file(name, place / name)
        else:
            folder.delete(name)


def _held_out(data: ImageData | TextData, checkpoint: Checkpoint) -> Tensor | None:
    """Return the training images that the retraining did not learn from."""
    portion = checkpoint.config.train_portion
    if portion is None or isinstance(data, TextData):
        return None
    return split_indices(len(data.train), portion, checkpoint.config.data.split_seed)[1]


def _some_images(work: _Export, number: int) -> tuple[Tensor, Tensor]:
    """Return up to `number` images, held-out ones if there are any, in a fixed random order."""
    assert isinstance(work.data, ImageData)
    train = work.data.train
    rows = torch.arange(len(train)) if work.held_out is None else work.held_out
    shuffled = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    order = rows[shuffled[:number]]
    batches = list(train.read(order, 256, device=torch.device("cpu")))
    return torch.cat([images for images, _ in batches]), torch.cat([y for _, y in batches])
