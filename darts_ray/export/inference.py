"""The modules that are exported: a network as it is used, without anything from training."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from darts_ray.errors import ExportError
from darts_ray.export.consumer.contract import ModelMetadata


class ImageInference(nn.Module):
    """Normalisation, then the network: images in 0..1 to logits, or to probabilities.

    This is the truth that exported files are compared with: the mean is subtracted and the
    result divided by std, as in training.

    Args:
        network: maps normalised images to logits; it is copied.
        metadata: its mean and std have one value per channel; its `output` says what comes out.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__()
        self.network = deployed(network)
        self.softmax = metadata.output == "probabilities"
        self.register_buffer("mean", torch.tensor(metadata.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(metadata.std).view(1, -1, 1, 1))
        self.eval()

    def forward(self, images: Tensor) -> Any:
        """Map images (batch, channels, height, width) in 0..1 to outputs (batch, classes)."""
        return self.outputs((images - self.mean) / self.std)

    def outputs(self, normalised: Tensor) -> Any:
        """Map normalised images to outputs (batch, classes)."""
        logits = self.network(normalised)
        return logits.softmax(1) if self.softmax else logits


class DeployedImages(ImageInference):
    """The same as it is exported: it takes the file's input, and normalises by a convolution.

    Converters and integer tools know a 1x1 depthwise convolution better than a subtraction and a
    division of the shape (1, channels, 1, 1). Normalisation is not folded into the network's
    first convolution: that pads with zeros, which are not the folded mean.

    Args:
        network: as in `ImageInference`.
        metadata: also its `dtype` and `layout`: float32 NCHW in 0..1, or uint8 NHWC.
    """

    def __init__(self, network: nn.Module, metadata: ModelMetadata) -> None:
        super().__init__(network, metadata)
        self.bytes = metadata.dtype == "uint8"
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (metadata.mean, metadata.std))
        self.normalise = nn.Conv2d(len(mean), len(mean), 1, groups=len(mean))
        scale = 255.0 if self.bytes else 1.0
        with torch.no_grad():
            self.normalise.weight.copy_((1 / (scale * std)).view(-1, 1, 1, 1))
            self.normalise.bias.copy_(-mean / std)  # type: ignore[union-attr]
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Any:
        """Map what the metadata describes to outputs (batch, classes)."""
        if self.bytes:
            images = images.permute(0, 3, 1, 2).float()  # (batch, channels, height, width)
        return self.outputs(self.normalise(images))

    def example(self, size: tuple[int, int, int]) -> Tensor:
        """Return two images of (channels, height, width), always the same; exporters need them."""
        # Not batch 1, which the exporter takes for a constant.
        channels, height, width = size
        draw = torch.Generator().manual_seed(0)
        if self.bytes:
            shape = (2, height, width, channels)
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
        return torch.rand(2, *size, generator=draw)


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
