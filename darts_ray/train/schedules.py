"""What changes from epoch to epoch, and from sequence to sequence, by formula."""

from __future__ import annotations

from darts_ray.config import RetrainOptimConfig
from darts_ray.runtime.schedule import cosine


def learning_rate(optim: RetrainOptimConfig, epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch.

    In W warm-up epochs it is `lr * (epoch + 1) / W`. The schedule starts after them: cosine
    `lr_min + (lr - lr_min) * (1 + cos(pi * e / E)) / 2` or exponential `lr * decay ** e`, with
    e = epoch - W and E = epochs - W.

    Args:
        optim: the schedule and its constants.
        epoch: counted from 0.
        epochs: of the whole training.
    """
    warmup = optim.warmup_epochs
    if epoch < warmup:
        return optim.lr * (epoch + 1) / warmup
    if optim.schedule == "cosine":
        return cosine(optim.lr, optim.lr_min, epoch - warmup, epochs - warmup)
    if optim.schedule == "exponential":
        return float(optim.lr * optim.decay ** (epoch - warmup))
    return optim.lr


def drop_path_rate(last: float, epoch: int, epochs: int) -> float:
    """Return `last * epoch / epochs`; the epoch counts from 0, so the first one drops nothing."""
    return last * epoch / epochs


def length_factor(num_tokens: int, bptt: int) -> float:
    """Return the learning rate's factor for a sequence of this length.

    A longer sequence averages its loss over more tokens; the factor gives every token the same
    weight (Merity et al. 2017, section 4.1).
    """
    return num_tokens / bptt
