"""Methods whose mixing weights follow from the alphas alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from darts_ray.config.base import NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from darts_ray.config.methods.base import MethodConfig, check_channels

if TYPE_CHECKING:
    from darts_ray.config.search import SearchConfig


class DartsConfig(MethodConfig):
    """DARTS: softmax of the alphas, derivation by magnitude."""

    name: Literal["darts"] = "darts"


class DartsMinusConfig(MethodConfig):
    """DARTS-: an auxiliary skip on every edge that fades out."""

    conv_only = "its auxiliary skip connection goes around the operations of a conv cell"
    draws = True

    name: Literal["darts_minus"] = "darts_minus"
    beta: PositiveFloat = Field(1.0, description="Weight of the auxiliary skip in epoch 0.")


class PCDartsConfig(MethodConfig):
    """PC-DARTS: one part of the channels, normalised edges, a warm-up."""

    conv_only = "it divides the channels of conv cells"

    name: Literal["pc_darts"] = "pc_darts"
    channels: PositiveInt = Field(4, description="K: operations see 1/K of the channels.")
    warmup: Probability = Field(0.3, description="Share of the epochs without alpha steps.")

    def check(self, search: SearchConfig) -> None:
        """Check that K divides the channels."""
        super().check(search)
        check_channels(search, self.channels)


class BetaDartsConfig(MethodConfig):
    """beta-DARTS: the alphas' logsumexp is part of their loss."""

    draws = True  # the weight of the term changes from epoch to epoch

    name: Literal["beta_darts"] = "beta_darts"
    weight: NonNegativeFloat = Field(50.0, description="Where the ramp from 0 leads to.")


class FairDartsConfig(MethodConfig):
    """FairDARTS: independent sigmoids instead of a softmax, and sparse cells."""

    conv_only = "a recurrent node takes exactly one edge"

    name: Literal["fair_darts"] = "fair_darts"
    weight: NonNegativeFloat = Field(10.0, description="Of the zero-one loss.")
    threshold: Probability = Field(0.85, description="Operations below it are left out.")


class LambdaDartsConfig(MethodConfig):
    """Lambda-DARTS: the layers of the network shall agree on their alphas."""

    conv_only = "it compares the normal cells of a network, and a recurrent one has a single cell"
    draws = True

    name: Literal["lambda_darts"] = "lambda_darts"
    weight: NonNegativeFloat = Field(
        0.125, description="Where the ramp from 0 leads to; default in s4 on SVHN: 0.25."
    )
    epsilon: PositiveFloat = Field(1e-4, description="Size of the finite difference in p.")

    def constants(self, search: SearchConfig) -> Mapping[str, Any]:
        """Return the weight of the authors' script for S4 on SVHN."""
        is_s4_on_svhn = search.search_space().name == "s4" and search.data.source == "svhn"
        return {"weight": 0.25} if is_s4_on_svhn else {}

    def check(self, search: SearchConfig) -> None:
        """Check that there are two cells to compare."""
        super().check(search)
        layers = getattr(search.network, "layers", 0)
        reductions = {layers // 3, 2 * layers // 3}
        if search.search_space().skeleton == "darts" and layers - len(reductions) < 2:
            raise ValueError(
                f"method: 'lambda_darts' compares the normal cells of a network; {layers} layers"
                " hold fewer than two, so increase network.layers"
            )


class OlesConfig(MethodConfig):
    """OLES: operations whose training and validation gradients disagree are frozen."""

    conv_only = "the operations of a recurrent cell share their weights"
    draws = True

    name: Literal["oles"] = "oles"
    threshold: float = Field(0.4, ge=-1, le=1, description="Freeze below this mean cosine.")
    interval: PositiveInt = Field(20, description="Steps that a mean is taken over.")
