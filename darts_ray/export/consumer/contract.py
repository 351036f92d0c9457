"""What an ONNX file says about itself, in its `metadata_props` and in the JSON beside it."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from darts_ray.errors import PredictionError

_PREFIX = "darts."
_PACKAGES = ("torch", "onnx", "onnxscript")

Resize = Literal["none", "stretch", "centre_crop"]


@dataclass(frozen=True)
class PictureRule:
    """How a picture of any size becomes the network's input, as evaluation did it.

    Attributes:
        size: (height, width) in pixels; None: not known (files of older versions).
        resize: `none`: a picture must have that size; `stretch`: both sides are resized,
            whatever the shape was; `centre_crop`: the shorter side is resized to `shorter_side`,
            then the centre is cut out.
        shorter_side: in pixels; with `centre_crop` only.
        interpolation: of the resize; `bilinear` is Pillow's, which smooths when it shrinks.
        converts_color: whether gray pictures become RGB and the reverse; else another mode is
            an error.
    """

    size: tuple[int, int] | None = None
    resize: Resize = "none"
    shorter_side: int | None = None
    interpolation: str = "bilinear"
    converts_color: bool = False


@dataclass(frozen=True)
class TextRule:
    r"""How a text becomes tokens: words found by a pattern, and an end mark after every unit.

    Attributes:
        pattern: regular expression of a word.
        unit: what an end mark follows: a `line`, or a `paragraph` (ended by an empty line).
        lowercase: whether the text is turned to lower case first.
        end: the end mark.
        unknown: stands for words that are not in the vocabulary, if the vocabulary has it.
    """

    pattern: str = r"\S+"
    unit: Literal["line", "paragraph"] = "line"
    lowercase: bool = False
    end: str = "<eos>"
    unknown: str = "<unk>"


def _installed_versions() -> dict[str, str]:
    from darts_ray import __version__  # here, because served copies of this module have none

    installed = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"darts_ray": __version__, **installed}


@dataclass(frozen=True)
class ModelMetadata:
    """Everything needed to use the file without the study it came from.

    Attributes:
        genotype_json: the cell, as `Genotype.to_json` writes it.
        class_names: in the order of the outputs; for a language model the vocabulary.
        mean: per channel, of images in 0..1; the graph subtracts it. Empty for text.
        std: per channel; the graph divides by it. Empty for text.
        layout: axes of the input.
        value_range: of the input's values.
        color: order of the channels.
        dtype: of the input's values.
        output: `logits`, `probabilities` or `log_probabilities`.
        pictures: how pictures become inputs; None for text.
        text: how a text becomes inputs; None for images.
        run_id: MLflow run of the study, if it was tracked.
        versions: of the packages that wrote the file.
        extra: further text, such as measured accuracy.
    """

    genotype_json: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str = "NCHW"
    value_range: str = "0..1"
    color: str = "RGB"
    dtype: str = "float32"
    output: str = "logits"
    pictures: PictureRule | None = None
    text: TextRule | None = None
    run_id: str | None = None
    versions: Mapping[str, str] = field(default_factory=_installed_versions)
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_values(self) -> dict[str, Any]:
        """Return everything but the genotype as plain values by name."""
        return {
            "class_names": list(self.class_names),
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": self.layout,
            "value_range": self.value_range,
            "color": self.color,
            "dtype": self.dtype,
            "output": self.output,
            "pictures": None if self.pictures is None else asdict(self.pictures),
            "text": None if self.text is None else asdict(self.text),
            "mlflow_run_id": self.run_id,
            "versions": dict(self.versions),
            "extra": dict(self.extra),
        }

    def to_props(self) -> dict[str, str]:
        """Return the `metadata_props`: JSON values under names that start with `darts.`."""
        values = self.to_values()
        props = {f"{_PREFIX}{name}": json.dumps(value) for name, value in values.items()}
        return {f"{_PREFIX}genotype": self.genotype_json, **props}

    @staticmethod
    def from_props(props: Mapping[str, str]) -> ModelMetadata:
        """Read what `to_props` wrote, also in files of older versions, which say less.

        Raises:
            PredictionError: the file was not written by darts_ray.
        """
        try:
            values = {
                name.removeprefix(_PREFIX): json.loads(text)
                for name, text in props.items()
                if name.startswith(_PREFIX)
            }
            return ModelMetadata._from_values(props[f"{_PREFIX}genotype"], values)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise PredictionError(
                f"The ONNX file has no usable darts.* metadata ({error!r}); it was not exported"
                " by darts_ray. Export the network again with `darts-ray export`."
            ) from error

    @staticmethod
    def from_sidecar(text: str) -> ModelMetadata:
        """Read what `to_sidecar` wrote."""
        values = json.loads(text)
        return ModelMetadata._from_values(json.dumps(values["genotype"]), values)

    @staticmethod
    def _from_values(genotype_json: str, values: Mapping[str, Any]) -> ModelMetadata:
        return ModelMetadata(
            genotype_json=genotype_json,
            class_names=tuple(values["class_names"]),
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            layout=values["layout"],
            value_range=values["value_range"],
            color=values["color"],
            dtype=values.get("dtype", "float32"),
            output=values.get("output", "logits"),
            pictures=_picture_rule(values.get("pictures")),
            text=None if values.get("text") is None else TextRule(**values["text"]),
            run_id=values["mlflow_run_id"],
            versions=values["versions"],
            extra=values["extra"],
        )

    def to_sidecar(
        self, file: str, inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]]
    ) -> str:
        """Return the JSON text for runtimes that do not show a file's metadata.

        Args:
            file: name of the ONNX file.
            inputs: name to shape; a dynamic axis has a name.
            outputs: as `inputs`.
        """
        content = {
            "format": "darts_ray model contract 1",
            "file": file,
            "inputs": {name: list(shape) for name, shape in inputs.items()},
            "outputs": {name: list(shape) for name, shape in outputs.items()},
            **self.to_values(),
            "genotype": json.loads(self.genotype_json),
        }
        return json.dumps(content, indent=1) + "\n"


def _picture_rule(values: Mapping[str, Any] | None) -> PictureRule | None:
    if values is None:
        return None
    size = values["size"]
    return PictureRule(**{**values, "size": None if size is None else (size[0], size[1])})
