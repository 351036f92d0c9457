"""Where convolutional networks halve the image, and which images survive it."""

from __future__ import annotations

from darts_ray.errors import ConfigError


def reduction_layers(layers: int) -> frozenset[int]:
    """Return the indices of the reduction cells: one third and two thirds of the way."""
    return frozenset({layers // 3, 2 * layers // 3})


def check_image_size(height: int, width: int, smallest: int, needed_by: str = "network") -> None:
    """Check that an image is large enough.

    Args:
        height: pixels.
        width: pixels.
        smallest: pixels that the shorter side must have.
        needed_by: what needs them, for the message.

    Raises:
        ConfigError: the shorter side is too short.
    """
    if min(height, width) < smallest:
        raise ConfigError(
            f"Images of {height}x{width} pixels are too small: the {needed_by} needs at least"
            f" {smallest}x{smallest}; enlarge them, or choose fewer layers."
        )
