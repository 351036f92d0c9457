"""Bit-for-bit comparison of nested states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from darts_ray.search import BilevelStep


def assert_identical(left: Any, right: Any) -> None:
    """Nested dicts, lists and tensors must agree in every bit (0.0 is not -0.0)."""
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_identical(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_identical(one, other)
    elif isinstance(left, Tensor):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.detach().numpy().tobytes() == right.detach().numpy().tobytes()
    else:
        assert left == right


def hidden_states(step: BilevelStep) -> dict[str, Tensor | None]:
    """Return the hidden states that a step carries, by `train` and `valid`."""
    states: dict[str, Tensor | None] = step.state_dict()["hidden"]
    return states


def take_hidden_states(step: BilevelStep, source: BilevelStep) -> None:
    """Let a step carry on from where another one is."""
    step.load_state_dict({**step.state_dict(), "hidden": hidden_states(source)})


def snapshot(supernet: Any, step: BilevelStep) -> dict[str, Any]:
    """Copies of everything that an alpha gradient must leave alone."""
    return {
        "network": {name: value.clone() for name, value in supernet.state_dict().items()},
        "alpha_optimizer": _moments(step.optimizers.alphas),
        "weight_optimizer": _moments(step.optimizers.weights),
        "hidden": {k: None if v is None else v.clone() for k, v in hidden_states(step).items()},
        "rng": torch.get_rng_state(),
        "grads": [None if p.grad is None else p.grad.clone() for p in supernet.parameters()],
    }


def _moments(optimizer: torch.optim.Optimizer) -> dict[Any, Any]:
    return {
        index: {
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in entry.items()
        }
        for index, entry in optimizer.state_dict()["state"].items()
    }
