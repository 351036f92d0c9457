"""Batch normalisation over the batches of all workers."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn


class SynchronisedNorm(nn.BatchNorm2d):
    """What `nn.SyncBatchNorm`, which runs on GPUs only, computes; for every device.

    In training mean and variance are those of the images of all workers, which need not hold
    equally many. In evaluation mode, and in its state dict, it is an `nn.BatchNorm2d`.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (batch, channels, height, width)."""
        if not self.training:
            out: Tensor = super().forward(input)
            return out
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        ones = x.new_full((1,), x.numel() / x.shape[1])
        summed = _Total.apply(torch.cat([x.sum((0, 2, 3)), ones]))  # (channels + 1,)
        count = summed[-1].detach()
        mean = summed[:-1] / count
        centred = x - mean[:, None, None]
        variance = _Total.apply(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * (count / (count - 1)))
        out = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """Move the running statistics towards those of this step."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased_variance.to(self.running_var.dtype), self.momentum)


class _Total(torch.autograd.Function):
    """The sum over all workers.

    Each worker's output depends on every worker's input, so the gradient is the sum as well.
    """

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        """Sum."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        """Sum."""
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def synchronise_norms(network: nn.Module) -> None:
    """Let every batch normalisation of a network work over all workers, in place.

    On GPUs it is PyTorch's. Names and values of parameters and buffers stay.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d) and not isinstance(child, SynchronisedNorm):
                setattr(module, name, _synchronised(child))


def _synchronised(norm: nn.BatchNorm2d) -> nn.Module:
    tensors = [*norm.parameters(), *norm.buffers()]
    if any(tensor.is_cuda for tensor in tensors):
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
        return converted
    ours = SynchronisedNorm.__new__(SynchronisedNorm)
    ours.__dict__ = norm.__dict__  # the same parameters, buffers and settings
    return ours
