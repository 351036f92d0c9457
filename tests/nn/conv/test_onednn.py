"""Gradients of single precision on a CPU, in processes of their own: a wrong kernel may kill them.

The weight gradient of a 1x1 convolution of stride 2 corrupts the heap in oneDNN for few channels
(its issue 6035): with AVX-512 below 16 from 48 pixels on, with AVX2 below 8 at any size.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys

import torch

from darts_ray.nn import ConvNetwork, ConvSupernet
from darts_ray.nn.conv.fused.others import ReducingSkips
from darts_ray.nn.conv.layers import FactorizedReduce, ReLUConvNorm
from darts_ray.space import zoo

torch.set_num_threads(1)


def gradients(network, images):
    network.zero_grad()
    out = network(images)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
    (out.double() * weights).sum().backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


class Skips(ReducingSkips):
    def forward(self, x):
        return self.outputs(x, range(2))


def check(build, batch, channels, size):
    torch.manual_seed(0)
    network = build()
    images = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last)
    single = [gradients(network, images).double() for _ in range(2)]
    network.double()
    exact = gradients(network, images.double())
    for gradient in single:
        error = float((gradient - exact).norm() / exact.norm())
        # rounding alone flips a few ReLUs and maxima of large maps
        assert error < 0.01, (network.__class__, batch, channels, size, error)
    kept.append([torch.randn(100) for _ in range(20)])  # allocations notice a damaged heap


kept = []
for batch, size in ((8, 8), (1, 33), (4, 48), (2, 64)):
    for c in (1, 2, 3, 4, 6, 8, 12, 15, 16, 48):
        check(lambda: FactorizedReduce(c, c + c % 2, affine=False), batch, c, size)
        check(lambda: ReLUConvNorm(c, c, affine=False), batch, c, size)
        if c > 1:
            check(lambda: Skips(c, 2), batch, c, size)
for c, size in ((2, 8), (4, 48)):
    check(lambda: ConvSupernet(c, layers=3, nodes=2), 4, 3, size)
    check(lambda: ConvNetwork(zoo["DARTS_V2"], c, 10, 3, False, 0.0), 4, 3, size)
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="oneDNN's kernels are for x86")
@pytest.mark.parametrize("instructions", ["ALL", "AVX2"])
def test_gradients_with_few_channels_are_right(instructions: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": instructions},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
