"""What keeps a search from collapsing, whatever its method: drop path and early stopping."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from darts_ray.config.base import Model, NonNegativeInt, PositiveFloat, PositiveInt, Probability


class DropPathConfig(Model):
    """ScheduledDropPath of RobustDARTS (Zela et al. 2020), in the supernet."""

    probability: Probability = Field(
        0.0, description="Of dropping the output of an edge, in the last epoch; ramped from 0."
    )
    cutout: NonNegativeInt = Field(
        16,
        description="Side of a square that is erased from images, with a probability that is"
        " ramped from 0 to 1; 0: none. Without drop path there is none either.",
    )


class EarlyStopConfig(Model):
    """RobustDARTS's rule on the dominant eigenvalue of the alphas' Hessian (Zela et al. 2020)."""

    rule: Literal["eigenvalue"] = "eigenvalue"
    action: Literal["stop", "adapt"] = Field(
        "stop",
        description="stop: return the cell from before the eigenvalue grew (DARTS-ES); adapt: go"
        " back to that epoch with more weight decay (DARTS-ADA).",
    )
    window: PositiveInt = Field(5, description="Measurements in a local average.")
    delta: PositiveInt = Field(4, description="Averages between the two that are compared.")
    factor: PositiveFloat = Field(1.3, description="Growth that stops a search.")
    first: NonNegativeInt = Field(10, description="First epoch that may be returned to.")
    every: PositiveInt = Field(2, description="Epochs between measurements.")
    decay_factor: PositiveFloat = Field(10.0, description="On the weight decay; adapt only.")
    decay_max: PositiveFloat = Field(0.03, description="Largest weight decay; adapt only.")


def _as_drop_path(value: object) -> Any:
    return {"probability": value} if isinstance(value, int | float) else value


def _as_early_stop(value: object) -> Any:
    return {"rule": value} if isinstance(value, str) else value


DropPath: TypeAlias = Annotated[DropPathConfig, BeforeValidator(_as_drop_path)]
"""A probability, or `{probability: P, cutout: SIDE}`."""

EarlyStop: TypeAlias = Annotated[EarlyStopConfig, BeforeValidator(_as_early_stop)]
"""The rule's name, or `{rule: NAME, ...}`."""
