"""What an ONNX file says about itself, kept in its `metadata_props`."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import darts_ray
from darts_ray.errors import ExportError

_PREFIX = "darts."
_PACKAGES = ("torch", "onnx", "onnxscript")


def _installed_versions() -> dict[str, str]:
    installed = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"darts_ray": darts_ray.__version__, **installed}


@dataclass(frozen=True)
class ModelMetadata:
    """Everything needed to use the file without the study it came from.

    Attributes:
        genotype_json: the cell, as `Genotype.to_json` writes it.
        class_names: in the order of the logits; for a language model the vocabulary.
        mean: per channel, of images in 0..1; the graph subtracts it. Empty for text.
        std: per channel; the graph divides by it. Empty for text.
        layout: axes of the input.
        value_range: of the input's values.
        color: order of the channels.
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
    run_id: str | None = None
    versions: Mapping[str, str] = field(default_factory=_installed_versions)
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_props(self) -> dict[str, str]:
        """Return the `metadata_props`: JSON values under names that start with `darts.`."""
        values = {
            "class_names": list(self.class_names),
            "mean": list(self.mean),
            "std": list(self.std),
            "layout": self.layout,
            "value_range": self.value_range,
            "color": self.color,
            "mlflow_run_id": self.run_id,
            "versions": dict(self.versions),
            "extra": dict(self.extra),
        }
        props = {f"{_PREFIX}{name}": json.dumps(value) for name, value in values.items()}
        return {f"{_PREFIX}genotype": self.genotype_json, **props}

    @staticmethod
    def from_props(props: Mapping[str, str]) -> ModelMetadata:
        """Read what `to_props` wrote.

        Raises:
            ExportError: the file was not written by darts_ray.
        """
        try:
            values = {
                name.removeprefix(_PREFIX): json.loads(text)
                for name, text in props.items()
                if name.startswith(_PREFIX)
            }
            return ModelMetadata(
                genotype_json=props[f"{_PREFIX}genotype"],
                class_names=tuple(values["class_names"]),
                mean=tuple(values["mean"]),
                std=tuple(values["std"]),
                layout=values["layout"],
                value_range=values["value_range"],
                color=values["color"],
                run_id=values["mlflow_run_id"],
                versions=values["versions"],
                extra=values["extra"],
            )
        except (KeyError, json.JSONDecodeError) as error:
            raise ExportError(
                f"The ONNX file has no usable darts.* metadata ({error!r}); it was not exported"
                " by darts_ray. Export the network again with `darts-ray export`."
            ) from error
