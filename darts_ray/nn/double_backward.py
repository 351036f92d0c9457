"""How the fast autograd functions of this package are differentiated twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients_by_replay(
    outputs_of: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    """Return the gradients of `inputs`, themselves differentiable.

    A hand-written backward pass calls this under `create_graph`: the forward pass is repeated with
    PyTorch's own differentiable operations, which costs time but needs no second formula.

    Args:
        outputs_of: maps the inputs to the outputs.
        inputs: as they were saved in the forward pass.
        needed: which of the inputs need a gradient.
        grads: gradients of the outputs.

    Returns:
        One gradient per input; None where it is not needed.
    """
    # Aliases, because one input may depend on another, as in a module that is applied twice:
    # gradients must not go that way here.
    aliases = [
        tensor.view_as(tensor) if need else tensor
        for tensor, need in zip(inputs, needed, strict=True)
    ]
    needed_aliases = [alias for alias, need in zip(aliases, needed, strict=True) if need]
    outputs = outputs_of(*aliases)
    gradients = iter(torch.autograd.grad(outputs, needed_aliases, grads, create_graph=True))
    return [next(gradients) if need else None for need in needed]
