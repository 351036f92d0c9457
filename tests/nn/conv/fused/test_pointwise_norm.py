"""Pointwise convolution and BN as one linear map; gradients are in `test_mixed_convs`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from darts_ray.nn.conv.fused.pointwise_norm import (
    apply_map,
    images_of,
    linear_map,
    map_gradients,
    pixel_rows,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_map_is_convolution_and_normalisation() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 3, 4, dtype=torch.float64)
    pointwise = torch.randn(1, 1, 5, 3, dtype=torch.float64)
    rows = pixel_rows(images, 1)
    ours = apply_map([rows], linear_map([rows], pointwise), torch.ones(1, 1).double())
    convolved = F.conv2d(images, pointwise[0, 0, :, :, None, None])
    theirs = pixel_rows(F.batch_norm(convolved, None, None, training=True), 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_constant_channels_stay_finite_in_float32() -> None:
    """Mean and mean square of a large constant cancel; the variance must not become negative."""
    rows, mix = torch.full((1, 64, 4), 1000.0), torch.ones(1, 1)
    linear = linear_map([rows], torch.randn(1, 1, 4, 4))
    out = apply_map([rows], linear, mix)
    assert torch.isfinite(out).all()
    _, _, (gradient,) = map_gradients(torch.ones_like(out), [rows], linear, mix, True)
    assert gradient is not None
    assert torch.isfinite(gradient).all()


def test_rows_and_images_are_views_of_each_other() -> None:
    images = torch.randn(2, 6, 3, 4).contiguous(memory_format=torch.channels_last)
    rows = pixel_rows(images, 2)
    assert rows.shape == (2, 24, 3)
    assert rows.data_ptr() == images.data_ptr()
    assert rows[1, 13, 2] == images[1, 5, 0, 1]  # edge 1, channel 2; pixel 13 = 12 + 0 * 4 + 1
    assert torch.equal(images_of(rows, images), images)
