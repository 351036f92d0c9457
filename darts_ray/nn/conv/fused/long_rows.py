"""Operations channel by channel on pixels of few channels, several pixels as one longer row.

PyTorch's inner loop has as many steps as a row has numbers, 16 where the state has 16 channels.
"""

from __future__ import annotations

import math

from torch import Tensor


def add_scaled(total: Tensor | None, rows: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    """Return `total + scale * rows + shift`, in `total`'s memory.

    Args:
        total: (pixels, C); None for zeros.
        rows: (pixels, C).
        scale: (C,).
        shift: (C,); None for zeros.
    """
    longer = _pixels_in_a_row(rows)
    view, scale = rows.reshape(-1, longer * rows.shape[1]), scale.repeat(longer)
    if total is None:
        out = view * scale
    else:
        out = total.view_as(view).addcmul_(view, scale)
    if shift is not None:
        out += shift.repeat(longer)
    return out.view(rows.shape)


def channel_sum(rows: Tensor) -> Tensor:
    """Sum (pixels, C) over the pixels."""
    longer = _pixels_in_a_row(rows)
    return rows.reshape(-1, longer * rows.shape[1]).sum(0).view(longer, -1).sum(0)


def _pixels_in_a_row(rows: Tensor) -> int:
    return math.gcd(len(rows), max(1, 256 // rows.shape[1]))
