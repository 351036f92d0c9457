"""What changes from epoch to epoch of a search or a training, by formula."""

from __future__ import annotations

import math


def cosine(start: float, end: float, epoch: int, epochs: int) -> float:
    """Return `end + (start - end) * (1 + cos(pi * epoch / epochs)) / 2`; epochs count from 0."""
    return end + (start - end) * (1 + math.cos(math.pi * epoch / epochs)) / 2
