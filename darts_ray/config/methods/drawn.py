"""Methods that draw their mixing weights in each step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from darts_ray.config.base import NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from darts_ray.config.methods.base import MethodConfig, check_channels

if TYPE_CHECKING:
    from darts_ray.config.search import SearchConfig


class SDartsConfig(MethodConfig):
    """SmoothDARTS: weights are trained at perturbed mixing weights."""

    draws = True

    name: Literal["sdarts"] = "sdarts"
    perturbation: Literal["random", "adversarial"] = "random"
    epsilon_min: NonNegativeFloat = Field(0.03, description="Radius in epoch 0.")
    epsilon_max: NonNegativeFloat = Field(0.3, description="Radius that the ramp leads to.")
    steps: PositiveInt = Field(7, description="Gradient steps; adversarial only.")

    def ineffective(self) -> list[str]:
        """Return `steps` of random perturbations."""
        if self.perturbation == "random" and self.steps != 7:
            return ["method.steps: has no effect with perturbation: random"]
        return []

    @model_validator(mode="after")
    def _check_radii(self) -> SDartsConfig:
        if self.epsilon_min > self.epsilon_max:
            raise ValueError("epsilon_min: must not exceed epsilon_max")
        return self


class GdasConfig(MethodConfig):
    """GDAS: one operation per edge, drawn by a hard Gumbel softmax."""

    draws = True
    picks_operations = True

    name: Literal["gdas"] = "gdas"
    tau_max: PositiveFloat = Field(10.0, description="Temperature in the first epoch.")
    tau_min: PositiveFloat = Field(0.1, description="Temperature in the last epoch.")
    unselected: Literal["zero", "exact"] = Field(
        "zero",
        description="Gradient of operations that were not drawn: zero (they do not run), or the"
        " one they would have (all run, as slow as DARTS).",
    )


class DrNasConfig(MethodConfig):
    """DrNAS: mixing weights are drawn from a Dirichlet distribution."""

    draws = True

    name: Literal["drnas"] = "drnas"
    regulariser: Literal["l2", "kl"] = Field(
        "l2", description="l2: Adam's weight decay of the alphas; kl: distance from Dirichlet(1)."
    )
    kl_weight: NonNegativeFloat = Field(1e-3, description="Of the kl regulariser.")
    channels: PositiveInt = Field(1, description="Partial channels as in PC-DARTS; 1: all.")
    warmup: Probability = Field(
        0.0, description="Share of the epochs without alpha steps; 0.4 with partial channels."
    )

    def ineffective(self) -> list[str]:
        """Return the weight of a regulariser that is not used."""
        if self.regulariser == "l2" and self.kl_weight != 1e-3:
            return ["method.kl_weight: has no effect with regulariser: l2"]
        return []

    def check(self, search: SearchConfig) -> None:
        """Check that K divides the channels."""
        super().check(search)
        if self.channels > 1:
            check_channels(search, self.channels)


class SnasConfig(MethodConfig):
    """SNAS: a soft Gumbel softmax, alphas and weights on the same batches."""

    conv_only = "a recurrent node takes exactly one edge"
    draws = True

    name: Literal["snas"] = "snas"
    tau_max: PositiveFloat = Field(1.0, description="Temperature in the first epoch.")
    tau_min: PositiveFloat = Field(0.03, description="Temperature in the last epoch.")
