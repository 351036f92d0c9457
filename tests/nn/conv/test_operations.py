from __future__ import annotations

import pytest
import torch
from torch import nn

from darts_ray.errors import ConfigError
from darts_ray.nn import ConvSupernet, register_operation
from darts_ray.nn.conv.layers import FactorizedReduce, PooledNorm
from darts_ray.nn.conv.operations import forget_running_statistics, make_operation
from darts_ray.space import CellSpace, EdgeSpace, SearchSpace
from darts_ray.space.spaces import CONV_PRIMITIVES

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = [*[name for name in CONV_PRIMITIVES if name != "none"], "sep_conv_7x7", "conv_7x1_1x7"]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_strides_halve_any_size_rounding_up(name: str, stride: int, affine: bool) -> None:
    operation = make_operation(name, 4, stride, affine)
    for height, width in ((8, 8), (7, 5), (3, 2)):
        out = operation(torch.randn(2, 4, height, width))
        assert out.shape == (2, 4, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("name", NAMES)
def test_affine_reaches_every_normalisation(name: str) -> None:
    for affine in (True, False):
        parts = make_operation(name, 4, 2, affine).modules()
        norms = [part for part in parts if isinstance(part, nn.BatchNorm2d)]
        assert all(norm.affine is affine for norm in norms)
        # derived pools have no normalisation, supernet pools have one
        expected = {"max_pool_3x3": 0, "avg_pool_3x3": 0} if affine else {}
        seps = {"sep_conv_3x3": 2, "sep_conv_5x5": 2, "sep_conv_7x7": 2}
        assert len(norms) == {**seps, **expected}.get(name, 1)


def test_average_pool_does_not_count_the_padding() -> None:
    pool = make_operation("avg_pool_3x3", 1, 1, True)
    torch.testing.assert_close(pool(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))


def test_dilated_convolution_reaches_four_pixels() -> None:
    depthwise = make_operation("dil_conv_5x5", 1, 1, True).op[1]
    with torch.no_grad():
        depthwise.weight.fill_(1)
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 4] = 1
    assert depthwise(x).nonzero()[:, 2].unique().tolist() == [0, 2, 4, 6, 8]


def test_factorized_reduce_reads_both_grids() -> None:
    reduce = FactorizedReduce(1, 2, affine=False)
    with torch.no_grad():
        reduce.conv_1.weight.fill_(1)
        reduce.conv_2.weight.fill_(1)
    reduce.bn = nn.Identity()
    x = torch.arange(16.0).view(1, 1, 4, 4)
    out = reduce(x)
    assert out[0, 0].tolist() == [[0, 2], [8, 10]]
    assert out[0, 1].tolist() == [[5, 7], [13, 15]]
    odd = reduce(torch.arange(9.0).view(1, 1, 3, 3))
    assert odd[0, 1].tolist() == [[4, 0], [0, 0]]  # zeros beyond the border


def test_factorized_reduce_refuses_odd_channels() -> None:
    with pytest.raises(ConfigError, match="even number of channels, not 3"):
        FactorizedReduce(4, 3)


def test_registering() -> None:
    @register_operation("test_scale")
    def scale(channels: int, stride: int, affine: bool) -> nn.Module:
        return nn.Conv2d(channels, channels, 1, stride)

    register_operation("test_scale")(scale)  # the same factory again is fine
    assert make_operation("test_scale", 2, 2, True)(torch.zeros(1, 2, 4, 4)).shape == (1, 2, 2, 2)
    for taken in ("test_scale", "sep_conv_3x3", "none"):
        with pytest.raises(ConfigError, match="already registered"):
            register_operation(taken)(lambda channels, stride, affine: nn.Identity())


def test_a_notebook_cell_that_is_run_again_replaces_its_operation() -> None:
    def run_cell() -> object:
        @register_operation("test_rerun")
        def rerun(channels: int, stride: int, affine: bool) -> nn.Module:
            return nn.Identity()

        return rerun

    assert run_cell() is not run_cell()
    with pytest.raises(ConfigError, match="already registered as 'test_rerun'"):
        register_operation("test_rerun")(lambda channels, stride, affine: nn.Identity())


@pytest.mark.parametrize("name", ["conv.3x3", "", "keys", "training"])
def test_names_that_a_module_cannot_have_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot be named"):
        register_operation(name)


def test_forgetting_running_statistics() -> None:
    operation = forget_running_statistics(make_operation("max_pool_3x3", 2, 1, False))
    assert isinstance(operation, PooledNorm)
    operation.eval()
    out = operation(torch.randn(8, 2, 4, 4))
    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(2), atol=1e-6, rtol=0)
    assert not list(operation.buffers())


@pytest.mark.parametrize("fused", [True, False])
def test_an_unknown_primitive_is_named_with_its_edge(fused: bool) -> None:
    edges = (EdgeSpace(0, 0, ("skip_connect", "sep_conv_3x3")), EdgeSpace(1, 0, ("sep_conv_33",)))
    cells = tuple(CellSpace(name, 2, edges) for name in ("normal", "reduce"))
    with pytest.raises(
        ConfigError,
        match=r"'normal' offers 'sep_conv_33' on its edge from state 1 to node 0.*Did you mean"
        r" 'sep_conv_3x3'\?",
    ):
        ConvSupernet(channels=4, layers=3, space=SearchSpace("bad", cells), fused=fused)
