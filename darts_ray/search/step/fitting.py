"""What a bilevel step asks of its supernet, checked before the first step."""

from __future__ import annotations

from typing import Any

import torch

from darts_ray.errors import ConfigError
from darts_ray.search.parts import Method, Softmax


def check_supernet(supernet: Any, method: Method) -> None:
    """Check that a supernet has what a method needs.

    Raises:
        ConfigError: it knows no mixing weights, or was made for another method.
    """
    space = getattr(supernet, "space", None)
    if space is None:
        if type(method.relaxation) is not Softmax or method.penalty or method.weight_rule:
            raise ConfigError(
                f"method: {method.name!r} needs a supernet that takes mixing weights"
                " (`space`, and `loss(batch, mixing=...)`); this one knows only its alphas."
            )
        return
    missing = set(method.relaxation.initial(supernet.alphas, space)) - set(supernet.alphas)
    connected = getattr(supernet, "connection", None) is not None
    if missing or (method.connection is not None and not connected):
        raise ConfigError(
            f"method: this supernet was not made for {method.name!r}; make it with"
            f" methods.supernet({method.name!r}, ...)."
        )


def check_graphs(supernet: Any, device: torch.device) -> None:
    """Check that steps can be replayed as CUDA graphs.

    Raises:
        ConfigError: there is no GPU, or the supernet carries a state from step to step.
    """
    if device.type != "cuda":
        raise ConfigError(
            f"graphs: CUDA graphs need a GPU, and the search runs on {device.type}; set"
            " graphs: false, or give the trial a GPU."
        )
    if hasattr(supernet, "stateful_loss") and supernet.initial_state(1) is not None:
        raise ConfigError(
            "graphs: a CUDA graph would repeat the state that this network carries; set"
            " graphs: false."
        )
