"""The export stage's work: from a retraining's weights to files that are proven to agree."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import ExportSection
from darts_ray.data import ImageData, TextData, TextInfo
from darts_ray.errors import ExportError
from darts_ray.export import (
    ModelMetadata,
    export_onnx,
    export_recurrent_onnx,
    quantize_onnx,
    verify_onnx,
    verify_recurrent_onnx,
)
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.record import RetrainEntry
from darts_ray.tracking import StudyTracker
from darts_ray.train import Checkpoint, load_checkpoint

ONNX_FILE = "best.onnx"
INT8_FILE = "best-int8.onnx"
WEIGHTS_FILE = "best.pt"
NETWORK_FILE = "network.pt"
"""The deployable network inside a retraining's checkpoint folder."""

NUM_VERIFIED = 32
NUM_CALIBRATION = 256
NUM_JUDGED = 2048
TEXT_LENGTH, NUM_TEXTS = 35, 7


def export_network(
    folder: StudyFolder,
    entry: RetrainEntry,
    section: ExportSection,
    data: ImageData | TextData,
    tracker: StudyTracker | None,
    model_name: str,
) -> dict[str, Any]:
    """Write best.pt, best.onnx and, if asked for, the int8 file; return what was found.

    The ONNX file is compared with torch on training images (of a text, on its validation part).
    A file appears in the study folder only after it has passed.

    Args:
        folder: the study.
        entry: the retraining to export, with its checkpoint's place in the folder.
        section: opset, tolerance, quantisation.
        data: the study's data; the test set is not read.
        tracker: where the model is registered; None: nowhere.
        model_name: its name there.

    Raises:
        ExportError: the file does not compute what the network computes.
        CheckpointError: the retraining's checkpoint cannot be read.
    """
    with tempfile.TemporaryDirectory() as temporary:
        weights, onnx = Path(temporary, WEIGHTS_FILE), Path(temporary, ONNX_FILE)
        weights.write_bytes(folder.read_bytes(f"{entry.checkpoint}/{NETWORK_FILE}"))
        checkpoint = load_checkpoint(weights)
        metadata = _metadata(checkpoint, tracker)
        if isinstance(data, ImageData):
            size = (data.info.channels, *data.info.image_size)
            export_onnx(
                checkpoint.network,
                onnx,
                example_size=size,
                metadata=metadata,
                opset=section.opset,
            )
            images, _ = _some_images(data, NUM_VERIFIED)
            verified = verify_onnx(onnx, checkpoint.network, images, tolerance=section.tolerance)
            checked_on = "training images"
        else:
            export_recurrent_onnx(checkpoint.network, onnx, metadata=metadata, opset=section.opset)
            tokens = data.valid[: TEXT_LENGTH * NUM_TEXTS].reshape(NUM_TEXTS, -1).T.contiguous()
            verified = verify_recurrent_onnx(
                onnx, checkpoint.network, tokens, tolerance=section.tolerance
            )
            checked_on = f"texts of {len(tokens)} words from the validation part"
        found = {
            "file": ONNX_FILE,
            "trial": entry.trial,
            "seed": entry.seed,
            "opset": section.opset,
            "tolerance": section.tolerance,
            "max_difference": verified.max_difference,
            "batch_sizes": list(verified.batch_sizes),
            "checked_on": checked_on,
            "size_bytes": onnx.stat().st_size,
            "int8": None,
            "registered": None,
        }
        folder.write_file(WEIGHTS_FILE, weights)
        folder.write_file(ONNX_FILE, onnx)
        if tracker is not None:
            tracker.log_checkpoint(None, weights)
            version = tracker.register_onnx(onnx, model_name, metadata=metadata.to_props())
            found["registered"] = (
                f"{model_name}, version {version}" if version else f"{model_name} (waiting)"
            )
        if section.quantize and isinstance(data, ImageData):
            found["int8"] = _quantize(folder, onnx, section, data)
    return found


def _metadata(checkpoint: Checkpoint, tracker: StudyTracker | None) -> ModelMetadata:
    info = checkpoint.info
    extra = {name: f"{value:.6g}" for name, value in checkpoint.metrics.items()}
    genotype = checkpoint.config.parsed_genotype().to_json()
    run_id = None
    if tracker is not None:
        tracker.flush()  # the run is known once the server has answered
        run_id = tracker.run_id
    if isinstance(info, TextInfo):
        return ModelMetadata(
            genotype_json=genotype,
            class_names=info.vocabulary,
            layout="TB",
            value_range=f"0..{info.vocab_size - 1}",
            color="",
            run_id=run_id,
            extra=extra,
        )
    return ModelMetadata(
        genotype_json=genotype,
        class_names=info.class_names,
        mean=info.mean,
        std=info.std,
        color="RGB" if info.channels == 3 else "gray",
        run_id=run_id,
        extra=extra,
    )


def _quantize(
    folder: StudyFolder, onnx: Path, section: ExportSection, data: ImageData
) -> dict[str, Any]:
    """Write the int8 file if it passes its gate; a refusal is part of the result, no error.

    The retraining has learned from all training images, and the test set may not decide
    anything; so the gate compares both files on training images, others than the calibration's.
    """
    images, labels = _some_images(data, NUM_CALIBRATION + NUM_JUDGED)
    cut = min(NUM_CALIBRATION, len(images) // 2)
    int8 = onnx.with_name(INT8_FILE)
    try:
        result = quantize_onnx(
            onnx,
            int8,
            calibration=images[:cut],
            images=images[cut:],
            labels=labels[cut:],
            max_accuracy_drop=section.max_accuracy_drop,
        )
    except ExportError as error:
        return {"error": str(error)}
    folder.write_file(INT8_FILE, int8)
    return {
        "file": INT8_FILE,
        "size_bytes": result.int8_size_bytes,
        "accuracy": result.int8_accuracy,
        "float_accuracy": result.accuracy,
        "judged_on": f"{len(images) - cut} training images",
    }


def _some_images(data: ImageData, number: int) -> tuple[Tensor, Tensor]:
    """Return up to `number` training images, always the same, in random order."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:number]
    batches = list(data.train.read(order, 256, device=torch.device("cpu")))
    return torch.cat([images for images, _ in batches]), torch.cat([y for _, y in batches])
