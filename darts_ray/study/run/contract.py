"""The retraining that a file is made from, and what the file will say about itself."""

from __future__ import annotations

from pathlib import Path

from darts_ray.config import DataConfig, ExportSection
from darts_ray.data import ImageInfo, TextInfo
from darts_ray.data.text.english import WORD
from darts_ray.data.text.words import EOS, UNKNOWN
from darts_ray.errors import CheckpointError
from darts_ray.export import ModelMetadata, PictureRule, TextRule
from darts_ray.export.consumer.contract import Resize
from darts_ray.study.files.folder import StudyFolder
from darts_ray.train import Checkpoint, load_checkpoint


def read_network(folder: StudyFolder, name: str, copy: Path) -> Checkpoint:
    """Copy a retraining's network out of the study folder, which may be on a bucket, and read it.

    Raises:
        CheckpointError: the file is damaged; the message names it where it lies.
    """
    copy.write_bytes(folder.read_bytes(name))
    try:
        return load_checkpoint(copy)
    except CheckpointError as error:
        found = str(error).replace(str(copy), folder.child(name))
        raise CheckpointError(
            f"{found} Delete the file, and `darts-ray resume {folder}` trains that network again."
        ) from error


def model_contract(
    checkpoint: Checkpoint, section: ExportSection, run_id: str | None
) -> ModelMetadata:
    """Return the contract of a retraining's file.

    Args:
        checkpoint: the retraining's network, its data and scores.
        section: which input and output the file shall have.
        run_id: of the study in MLflow, if it is tracked.
    """
    info = checkpoint.info
    extra = {name: f"{value:.6g}" for name, value in checkpoint.metrics.items()}
    genotype = checkpoint.config.parsed_genotype().to_json()
    if isinstance(info, TextInfo):
        return ModelMetadata(
            genotype_json=genotype,
            class_names=info.vocabulary,
            layout="TB",
            value_range=f"0..{info.vocab_size - 1}",
            color="",
            dtype="int64",
            output="log_probabilities",
            text=text_rule(checkpoint.config.data),
            run_id=run_id,
            extra=extra,
        )
    takes_bytes = section.input == "uint8_nhwc"
    return ModelMetadata(
        genotype_json=genotype,
        class_names=info.class_names,
        mean=info.mean,
        std=info.std,
        layout="NHWC" if takes_bytes else "NCHW",
        value_range="0..255" if takes_bytes else "0..1",
        color="RGB" if info.channels == 3 else "gray",
        dtype="uint8" if takes_bytes else "float32",
        output=section.output,
        pictures=picture_rule(checkpoint.config.data, info),
        run_id=run_id,
        extra=extra,
    )


def picture_rule(config: DataConfig, info: ImageInfo) -> PictureRule:
    """Return how the data room turned pictures into this network's evaluation images."""
    converts = config.channels is not None
    resize: Resize
    if config.image_size is None:
        resize = "none"
    elif config.source == "image_folder":
        resize = "centre_crop"
    else:
        resize = "stretch"
    if config.source == "image_folder":
        # A folder with any coloured picture is read as RGB, gray ones among them too.
        converts = converts or info.channels == 3
    shorter = round(info.image_size[0] * 256 / 224) if resize == "centre_crop" else None
    return PictureRule(info.image_size, resize, shorter, converts_color=converts)


def text_rule(config: DataConfig) -> TextRule:
    """Return how the data room turned a text into tokens."""
    if config.source == "english":
        return TextRule(WORD.pattern, "paragraph", lowercase=True, end=EOS, unknown=UNKNOWN)
    return TextRule(end=EOS, unknown=UNKNOWN)
