"""What the export stage leaves: files in the study folder, and what the record says of them."""

from __future__ import annotations

from dataclasses import dataclass

ONNX_FILE = "best.onnx"
SIDECAR_FILE = "best.json"
INT8_FILE = "best-int8.onnx"
INT8_SIDECAR_FILE = "best-int8.json"
UNROLLED_FILE = "best-unrolled.onnx"
UNROLLED_SIDECAR_FILE = "best-unrolled.json"
SPEED_FILE = "speed.json"
CARD_FILE = "model_card.md"
EXAMPLE_FILE = "example.png"
"""A picture of the test set, to try the file on."""
PROGRAM_FILE = "best.pt2"
WEIGHTS_FILE = "best.pt"
EXPORTED_FILES = (
    *(WEIGHTS_FILE, ONNX_FILE, SIDECAR_FILE, PROGRAM_FILE),
    *(INT8_FILE, INT8_SIDECAR_FILE, UNROLLED_FILE, UNROLLED_SIDECAR_FILE),
    *(SPEED_FILE, CARD_FILE, EXAMPLE_FILE),
)
"""All of them; those that a study did not ask for are missing."""


@dataclass(frozen=True)
class Int8File:
    """The int8 file, or why there is none.

    Attributes:
        error: why no file was written; the other fields are then empty.
        target: whose conventions it follows.
        accuracy: 0..1, on the images it was judged on.
        float_accuracy: of the float file on the same images.
        judged_on: which images those were, and whether the network has learned from them.
    """

    error: str | None = None
    file: str | None = None
    target: str = "x86"
    size_bytes: int = 0
    accuracy: float | None = None
    float_accuracy: float | None = None
    judged_on: str = ""
    registered: str | None = None


@dataclass(frozen=True)
class ProgramFile:
    """The torch.export program, or why there is none."""

    error: str | None = None
    file: str | None = None
    max_difference: float | None = None


@dataclass(frozen=True)
class UnrolledFile:
    """A language model's file for one length of text, without a loop."""

    file: str
    length: int
    max_difference: float


@dataclass(frozen=True)
class Exported:
    """The exported files, and what they were compared on; how fast they are is in speed.json.

    Attributes:
        file: the ONNX file in the study folder.
        sidecar: its contract as JSON.
        trial: the retraining it was made from.
        seed: of that retraining.
        opset: of its operators.
        tolerance: largest difference from torch that was allowed.
        max_difference: the largest that was found.
        batch_sizes: of the comparison.
        num_checked: images or texts that were compared.
        checked_on: which those were.
        size_bytes: of the file.
        graph: SHA-256 (hexadecimal) of what the file computes, to recognise it by; empty where an
            older version wrote it.
        program: the torch.export program; None: not asked for.
        int8: the int8 file; None: not asked for.
        unrolled: a language model without its loop; None: not asked for.
        registered: where in the model registry.
        reason: why this retraining was exported.
    """

    file: str
    trial: str
    seed: int
    opset: int
    tolerance: float
    max_difference: float
    batch_sizes: tuple[int, ...]
    checked_on: str
    size_bytes: int
    sidecar: str = ""
    num_checked: int = 0
    graph: str = ""
    program: ProgramFile | None = None
    int8: Int8File | None = None
    unrolled: UnrolledFile | None = None
    registered: str | None = None
    reason: str = ""
