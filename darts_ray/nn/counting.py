"""How large a network is: parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(network: nn.Module, *, auxiliary: bool = True) -> int:
    """Return the number of parameters, without alphas.

    Args:
        network: a supernet or a derived network.
        auxiliary: whether an auxiliary head counts; the paper's figures leave it out.
    """
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not name.startswith("alpha_") and (auxiliary or not name.startswith("auxiliary_head."))
    )


def num_weights(network: nn.Module) -> int:
    """Return the number of parameters, without alphas and without an auxiliary head."""
    return count_parameters(network, auxiliary=False)


def multiply_adds(network: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the multiply-adds of one forward pass in evaluation mode.

    Convolutions and matrix products count; normalisations, activations and pools do not.

    Args:
        network: whose `forward` takes images; its parameters and mode are left as they are.
        input_shape: of one image, (channels, height, width).
    """
    parameter = next(network.parameters())
    images = torch.zeros(1, *input_shape, dtype=parameter.dtype, device=parameter.device)
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(images)
    finally:
        network.train(was_training)
    return int(counter.get_total_flops()) // 2  # a multiply-add is two operations
