"""Exported files in the model registry, and which of them becomes the champion."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

from PIL import Image
from torch import Tensor

from darts_ray.config import StudyConfig
from darts_ray.data import ImageInfo, TextInfo
from darts_ray.export import ModelMetadata
from darts_ray.export.consumer.served import LOADER, serving_code
from darts_ray.study.files.exported import Exported
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import Record, RetrainEntry
from darts_ray.tracking import Registration, StudyTracker
from darts_ray.train import Checkpoint


def registration_of(config: StudyConfig, record: Record, entry: RetrainEntry) -> Registration:
    """Return how a study registers the network of a retraining.

    Args:
        config: of the study, with an export section.
        record: of the study.
        entry: of the exported retraining.
    """
    assert config.export is not None
    measure = Measure.of(config.data)
    name, score = held_out_score(record, entry, measure)
    return Registration(
        config.tracking.registered_model or config.name,
        rule=config.export.champion,
        score=score,
        score_name=name,
        more_is_better=measure.more_is_better,
    )


def held_out_score(
    record: Record, entry: RetrainEntry, measure: Measure
) -> tuple[str, float | None]:
    """Return name and value of the score that compares this model with others; never a test's.

    The retraining's own score on held-out data, where it has one; else its cell's in the select
    stage; else its cell's in the search.

    Args:
        record: of the study.
        entry: of the exported retraining.
        measure: what the study is judged by.
    """
    own = entry.metrics.get(measure.validation)
    if own is not None:
        return f"retrain {measure.validation}", own
    for found in record.search:
        if record.winner is not None and found.trial == record.winner.trial:
            if found.select_score is not None:
                return f"select {measure.validation}", found.select_score
            if found.validation is not None:
                return f"search {measure.validation}", found.validation
    return "", None


def describe(
    registration: Registration,
    checkpoint: Checkpoint,
    metadata: ModelMetadata,
    info: ImageInfo | TextInfo,
    example: Tensor | None,
) -> Registration:
    """Add the description of the version, and for image networks what serves them.

    Args:
        registration: name, rule and score.
        checkpoint: the exported network.
        metadata: its contract.
        info: of the study's data.
        example: an image, uint8 (channels, height, width); None: a language model.
    """
    scores = ", ".join(f"{name} {value}" for name, value in metadata.extra.items())
    described = replace(
        registration,
        description=f"Found by DARTS on {checkpoint.config.data.source}; {scores or 'no scores'}."
        f" Genotype: {metadata.genotype_json}",
        data=info.fingerprint,
    )
    if example is None:
        return described
    sink = io.BytesIO()
    pixels = example.permute(1, 2, 0).numpy()  # (height, width, channels)
    Image.fromarray(pixels[..., 0] if len(example) == 1 else pixels).save(sink, "PNG")
    picture = base64.b64encode(sink.getvalue()).decode("ascii")
    return replace(described, loader=LOADER, code=serving_code(), example_image=picture)


def register_files(
    tracker: StudyTracker,
    place: Path,
    registration: Registration,
    metadata: ModelMetadata,
    exported: Exported,
) -> Exported:
    """Register the ONNX file and the int8 file; a server that is away gets them later.

    Returns:
        what was exported, with where it was registered.
    """

    def register(name: str, alias: str) -> str:
        how = replace(registration, alias=alias)
        version = tracker.register_onnx(
            place / name, how.name, metadata=metadata.to_props(), registration=how
        )
        if version is None:
            return f"{how.name} (waiting)"
        objection = tracker.why_not_champion(place / name)
        lost = f" (not {alias}: {objection})" if objection else ""
        return f"{how.name}, version {version}{lost}"

    exported = replace(exported, registered=register(exported.file, "champion"))
    int8 = exported.int8
    if int8 is not None and int8.file is not None:
        int8 = replace(int8, registered=register(int8.file, "champion-int8"))
        exported = replace(exported, int8=int8)
    return exported
