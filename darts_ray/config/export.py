"""What a study exports, and how it is checked and measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from darts_ray.config.base import Model, NonNegativeFloat, PositiveFloat


class ExportSection(Model):
    """The ONNX file, and what comes with it."""

    opset: int = Field(
        20, ge=17, le=24, description="Of the operators; 17 is converted, for old importers."
    )
    tolerance: PositiveFloat = Field(1e-4, description="Largest difference from torch allowed.")
    input: Literal["float", "uint8_nhwc"] = Field(
        "float",
        description="Of images: float32 NCHW in 0..1, or bytes NHWC as decoders give them.",
    )
    output: Literal["logits", "probabilities"] = "logits"
    program: bool = Field(True, description="Also write best.pt2, a torch.export program.")
    unrolled_length: int | None = Field(
        None,
        ge=1,
        le=128,
        description="Of language models: also write best-unrolled.onnx, for texts of so many"
        " words at a time, which runtimes read that know no loops.",
    )
    quantize: bool = Field(False, description="Also write an int8 file, gated on accuracy.")
    int8_target: Literal["x86", "arm", "tensorrt"] = Field(
        "x86", description="Whose conventions the int8 file follows; with quantize only."
    )
    max_accuracy_drop: NonNegativeFloat = Field(
        0.01, description="Largest loss of held-out accuracy that int8 may cost."
    )
    benchmark_seconds: NonNegativeFloat = Field(
        0.3, description="Time for each measurement of the files' speed; 0: none."
    )
    champion: Literal["better", "always", "never"] = Field(
        "better",
        description="When the registered model becomes `champion`: with a better held-out score"
        " than the present one on the same data, always, or never.",
    )
    license: str | None = Field(None, description="Of the data, for the model card.")

    @model_validator(mode="after")
    def _check(self) -> ExportSection:
        if self.int8_target != "x86" and not self.quantize:
            raise ValueError("int8_target: does nothing without quantize: true")
        return self

    def check_images(self) -> None:
        """Insist that nothing is asked for that only language models have.

        Raises:
            ValueError: something is.
        """
        if self.unrolled_length is not None:
            raise ValueError("export.unrolled_length: is for text; leave it out for images")

    def check_text(self) -> None:
        """Insist that nothing is asked for that only image networks have.

        Raises:
            ValueError: something is.
        """
        if self.quantize:
            raise ValueError("export.quantize: is for images; leave it out for text")
        if self.input != "float" or self.output != "logits":
            raise ValueError("export.input and export.output: are for images; leave them out")
        if self.opset < 18:
            raise ValueError("export.opset: language models need 18 or higher")
