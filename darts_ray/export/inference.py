"""The modules that are exported: a network as it is used, without anything from training."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from darts_ray.errors import ExportError
from darts_ray.export.metadata import ModelMetadata


class ImageInference(nn.Module):
    """Normalisation, then the network: images in 0..1 to logits.

    The mean is subtracted and the result divided by std, as in training. Folding both into the
    first convolution would be inexact: it pads with zeros, which are not the folded mean.

    Args:
        network: maps normalised images to logits; it is copied.
        metadata: its mean and std have one value per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__()
        self.network = deployed(network)
        self.register_buffer("mean", torch.tensor(metadata.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(metadata.std).view(1, -1, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Any:
        """Map images (batch, channels, height, width) in 0..1 to logits (batch, classes)."""
        return self.network((images - self.mean) / self.std)


class RecurrentStep(nn.Module):
    """One time step of a `RecurrentNetwork`.

    Args:
        network: maps tokens (1, batch) and a hidden state to log probabilities and the next
            state; it is copied.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = deployed(network)
        self.eval()

    def forward(self, step_hidden: Tensor, step_words: Tensor) -> tuple[Tensor, Tensor]:
        """Map (1, batch, units) and (batch,) to the next state and log probs (batch, words)."""
        log_probs, next_hidden = self.network(step_words.unsqueeze(0), step_hidden)
        return next_hidden, log_probs[0]


def deployed(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode: float32, on the CPU, in the default memory format."""
    copied = copy.deepcopy(network).eval().cpu().float()
    return copied.to(memory_format=torch.contiguous_format)


def as_images(images: Tensor) -> Tensor:
    """Return float32 images in 0..1 on the CPU, from uint8 or float ones.

    Raises:
        ExportError: the shape is not (N, channels, height, width).
    """
    if images.ndim != 4:
        raise ExportError(f"Images must have the axes NCHW, not the shape {tuple(images.shape)}.")
    if images.dtype == torch.uint8:
        return images.cpu().float() / 255
    return images.detach().cpu().float()
