"""Draws a cell as a layered graph."""

from __future__ import annotations

from typing import Literal

from darts_ray.space import Genotype


def draw_cell(genotype: Genotype, cell: str, image_format: Literal["svg", "png"] = "svg") -> bytes:
    """Return a picture of one cell (`normal`, `reduce` or `recurrent`)."""
    raise NotImplementedError
