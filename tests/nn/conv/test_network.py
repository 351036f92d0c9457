from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from darts_ray.errors import ConfigError
from darts_ray.nn import ConvNetwork, ImageNetNetwork, count_parameters, multiply_adds, num_weights
from darts_ray.nn.conv.cell import ConvCell
from darts_ray.nn.conv.layers import Noise, drop_path
from darts_ray.nn.conv.skeleton import make_preprocessing, reduction_layers
from darts_ray.space import ConvGenotype, Edge, Genotype, zoo

pytestmark = pytest.mark.usefixtures("one_thread")

# REFERENCE: exact parameter counts without the auxiliary head, CIFAR-10 and ImageNet.
COUNTS = {
    "DARTS_V1": (3_169_414, 4_510_432),
    "DARTS_V2": (3_349_342, 4_718_752),
    "NASNet": (3_830_950, 5_564_320),
    "AmoebaNet": (3_145_078, 4_627_360),
}
SKIPS = ConvGenotype(
    normal=[("skip_connect", 0), ("sep_conv_3x3", 1)],
    normal_concat=[2],
    reduce=[("skip_connect", 0), ("max_pool_3x3", 1)],
    reduce_concat=[2],
)


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_of_the_published_cells(name: str) -> None:
    with torch.device("meta"):
        assert num_weights(ConvNetwork(zoo[name])) == COUNTS[name][0]
        assert num_weights(ImageNetNetwork(zoo[name])) == COUNTS[name][1]


def test_auxiliary_heads_have_the_original_sizes() -> None:
    with torch.device("meta"):
        cifar, imagenet = ConvNetwork(zoo["DARTS_V2"]), ImageNetNetwork(zoo["DARTS_V2"])
    # 1x1 convolution from 4*144 channels to 128, 2x2 to 768, two norms, linear
    head = 576 * 128 + 2 * 128 + 128 * 768 * 4 + 2 * 768 + 768 * 10 + 10
    assert count_parameters(cifar) - num_weights(cifar) == head
    # from 4*192 channels, one norm less
    head = 768 * 128 + 2 * 128 + 128 * 768 * 4 + 768 * 1000 + 1000
    assert count_parameters(imagenet) - num_weights(imagenet) == head


def test_shapes_inside_the_cifar_network() -> None:
    with torch.device("meta"):
        network = ConvNetwork(zoo["DARTS_V1"], channels=4, layers=6, num_classes=7)
        shapes = _output_shapes(network, torch.zeros(2, 3, 32, 32))
    assert [shapes[f"cells.{i}"] for i in range(6)] == [
        (2, 16, 32, 32),
        (2, 16, 32, 32),
        (2, 32, 16, 16),  # reduction cells: 6 // 3 and 2 * 6 // 3
        (2, 32, 16, 16),
        (2, 64, 8, 8),
        (2, 64, 8, 8),
    ]
    assert shapes["stem"] == (2, 12, 32, 32)
    assert shapes["auxiliary_head.features.1"] == (2, 64, 2, 2)  # after cell 4
    assert shapes["auxiliary_head.features"] == (2, 768, 1, 1)
    assert shapes["classifier"] == (2, 7)


def test_shapes_inside_the_imagenet_network() -> None:
    with torch.device("meta"):
        network = ImageNetNetwork(zoo["DARTS_V2"])
        shapes = _output_shapes(network, torch.zeros(2, 3, 224, 224))
    assert shapes["stem0.0"] == (2, 24, 112, 112)
    assert shapes["stem0"] == (2, 48, 56, 56)
    assert shapes["stem1"] == (2, 48, 28, 28)
    assert shapes["cells.3"] == (2, 192, 28, 28)
    assert shapes["cells.4"] == (2, 384, 14, 14)
    assert shapes["cells.13"] == (2, 768, 7, 7)
    assert shapes["auxiliary_head.features.1"] == (2, 768, 2, 2)  # pool 5 stride 2 on 7x7
    assert shapes["auxiliary_head.features"] == (2, 768, 1, 1)
    assert shapes["auxiliary_head.classifier"] == (2, 1000)


def _output_shapes(network: nn.Module, images: torch.Tensor) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for name, module in network.named_modules():
        module.register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: getattr(out, "shape", None)})
        )
    network.forward_with_auxiliary(images)
    return {name: tuple(shape) for name, shape in shapes.items() if shape}


def test_normalisations_are_affine_and_pools_have_none() -> None:
    network = ConvNetwork(SKIPS, channels=2, layers=3, auxiliary=False)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.affine and norm.track_running_stats for norm in norms)
    reduce_ops = [type(op) for op in network.cells[1].ops]
    assert reduce_ops[1] is nn.MaxPool2d
    assert type(network.cells[0].ops[0]) is nn.Identity


def make_cell(genotype: Genotype) -> ConvCell:
    preprocessing = make_preprocessing(4, 4, 4, reduction_prev=False, affine=True)
    return ConvCell(genotype, "normal", 4, False, preprocessing)


def test_a_network_computes_the_sum_over_edges_and_the_concat_over_nodes() -> None:
    torch.manual_seed(0)
    cell = make_cell(zoo["DARTS_V2"])
    x, y = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    s0, s1 = cell.preprocess0(x), cell.preprocess1(y)
    ops = list(cell.ops)
    # DARTS_V2 normal: sep3(0) sep3(1) | sep3(0) sep3(1) | sep3(1) skip(0) | skip(0) dil3(2)
    s2 = ops[0](s0) + ops[1](s1)
    s3 = ops[2](s0) + ops[3](s1)
    s4 = ops[4](s1) + s0
    s5 = s0 + ops[7](s2)
    torch.testing.assert_close(cell((x, y)), torch.cat([s2, s3, s4, s5], dim=1))


def test_nodes_with_three_edges_and_one() -> None:
    edges = [("skip_connect", 0), ("avg_pool_3x3", 1), ("sep_conv_3x3", 0)]
    genotype = ConvGenotype(
        normal=[*edges[:2], *edges],
        normal_concat=[2, 3],
        reduce=[*edges[:2], *edges],
        reduce_concat=[3],
        edges_per_node=3,
    )
    network = ConvNetwork(genotype, channels=4, layers=3, auxiliary=False, num_classes=2)
    assert len(network.cells[0].ops) == 5
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 2)


def test_drop_path_keeps_the_expectation_with_one_mask_per_sample() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3, 3)
    out = drop_path(x, 0.25)
    per_sample = out[:, 0, 0, 0]
    assert (out == per_sample[:, None, None, None]).all()
    torch.testing.assert_close(per_sample.unique(), torch.tensor([0, 4 / 3]))
    # standard error of the mean: sqrt(0.25 / 0.75 / 4000) = 0.009
    assert abs(per_sample.mean() - 1) < 0.04


def test_drop_path_spares_the_identity_and_evaluation() -> None:
    torch.manual_seed(0)
    network = ConvNetwork(SKIPS, channels=2, layers=1, auxiliary=False, drop_path=0.999999)
    genotype = ConvGenotype(SKIPS.normal, (2,), SKIPS.reduce, (2,))
    cell = make_cell(genotype)
    x = torch.randn(8, 4, 4, 4)
    torch.testing.assert_close(cell((x, x), 0.999999), cell.preprocess0(x))
    images = torch.randn(4, 3, 8, 8)
    network.eval()
    assert torch.equal(network(images), network(images))
    network.drop_path = 0.5
    network.train()
    assert not torch.equal(network(images), network(images))


def test_auxiliary_logits() -> None:
    network = ConvNetwork(SKIPS, channels=2, layers=3, num_classes=4)
    images = torch.randn(2, 3, 32, 32)
    network.drop_path = 0.0
    logits, auxiliary = network.forward_with_auxiliary(images)
    assert logits.shape == auxiliary.shape == (2, 4)
    in_training = network(images)  # where DistributedDataParallel must see the head
    assert torch.equal(in_training[0], logits)
    assert torch.equal(in_training[1], auxiliary)
    network.eval()
    assert torch.equal(network(images), network.forward_with_auxiliary(images)[0])
    without = ConvNetwork(SKIPS, channels=2, layers=3, num_classes=4, auxiliary=False)
    assert without.forward_with_auxiliary(images)[1] is None
    assert without(images).shape == (2, 4)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (4, 5)])
def test_small_and_odd_images(size: tuple[int, int]) -> None:
    network = ConvNetwork(SKIPS, channels=2, layers=3, in_channels=1, auxiliary=False)
    assert network(torch.randn(2, 1, *size)).shape == (2, 10)


def test_images_that_are_too_small_are_refused() -> None:
    network = ConvNetwork(SKIPS, channels=2, layers=3, auxiliary=False)
    with pytest.raises(ConfigError, match=r"3x9 pixels are too small.*at least 4x4"):
        network(torch.zeros(1, 3, 3, 9))
    network = ConvNetwork(SKIPS, channels=2, layers=3)
    network.check_image_size(29, 29)  # 29 -> 15 -> 8, which the 5x5 pool turns into 2x2
    with pytest.raises(ConfigError, match=r"auxiliary head.*at least 29x29"):
        network.check_image_size(28, 32)
    # which does not read the head
    assert network.eval()(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
    with pytest.raises(ConfigError, match="at least 32x32"):
        ImageNetNetwork(SKIPS, channels=2, layers=3, auxiliary=False).check_image_size(31, 64)


def test_smallest_images_of_the_auxiliary_heads_work() -> None:
    images = torch.zeros(2, 3, 29, 29)
    logits = ConvNetwork(SKIPS, channels=2, layers=3).forward_with_auxiliary(images)[1]
    assert logits.shape == (2, 10)
    with torch.device("meta"):
        network = ImageNetNetwork(SKIPS, channels=2, layers=3)
        with pytest.raises(ConfigError, match="at least 193x193"):
            network.check_image_size(192, 192)
        images = torch.zeros(2, 3, 193, 193)
        assert network.forward_with_auxiliary(images)[1].shape == (2, 1000)


def test_bad_genotypes_are_refused() -> None:
    unknown = ConvGenotype([("nothing", 0), ("skip_connect", 1)], [2], SKIPS.reduce, [2])
    with pytest.raises(ConfigError, match="No operation is registered as 'nothing'"):
        ConvNetwork(unknown)
    larger = ConvGenotype(SKIPS.normal, [0, 2], SKIPS.reduce, [1, 2])
    with pytest.raises(ConfigError, match="reduce_concat"):
        ConvNetwork(larger)


def test_an_edge_that_is_none_adds_nothing() -> None:
    torch.manual_seed(0)
    with_none = ConvGenotype([("none", 0), ("skip_connect", 1)], [2], SKIPS.reduce, [2])
    cell = ConvNetwork(with_none, channels=2, layers=3, auxiliary=False).double().cells[0]
    inputs = [torch.randn(2, 6, 4, 4, dtype=torch.float64) for _ in range(2)]
    assert torch.equal(cell(inputs), cell.preprocess1(inputs[1]))
    assert not list(cell.ops.parameters())


def test_reductions_are_at_one_and_two_thirds() -> None:
    assert reduction_layers(8) == {2, 5}
    assert reduction_layers(20) == {6, 13}
    assert reduction_layers(14) == {4, 9}
    assert reduction_layers(1) == {0}


def test_multiply_adds_of_one_layer_counted_by_hand() -> None:
    with torch.device("meta"):
        network = ConvNetwork(SKIPS, channels=2, layers=1, num_classes=5, auxiliary=False)
    count = 8 * 8 * 6 * 3 * 9  # stem: 8x8 pixels, 3 to 6 channels, 3x3
    count += 2 * 8 * 8 * 4 * 6  # two 1x1 preprocessings, 6 to 4 channels
    count += 4 * 4 * 4 * 4  # the stride-2 skip: two 1x1 from 4 to 2 channels, 4x4 pixels
    count += 4 * 5  # classifier
    assert multiply_adds(network, (3, 8, 8)) == count
    assert network.training


def test_multiply_adds_of_the_imagenet_network() -> None:
    """530M in convolutions and the classifier.

    The paper says 574M and names no tool. Others count 523M to 545M for the same cell
    (github.com/quark0/darts issue 46), the larger numbers with normalisations and activations.
    """
    with torch.device("meta"):
        network = ImageNetNetwork(zoo["DARTS_V2"])
    counts: Counter[str] = Counter()

    def count(module: nn.Conv2d | nn.Linear, _: object, out: torch.Tensor) -> None:
        # every output value is a sum over the weights of one output channel
        counts[type(module).__name__] += out[0].numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    total = multiply_adds(network, (3, 224, 224))
    assert total == counts.total() == 529_911_552


def nasbench201_genotype(*operations: str) -> Genotype:
    """The operations of the edges 1<-0, 2<-0, 2<-1, 3<-0, 3<-1, 3<-2."""
    pairs = zip(operations, (0, 0, 1, 0, 1, 2), strict=True)
    edges = [Edge(name, source) for name, source in pairs]
    return Genotype({"cell": (tuple(edges[:1]), tuple(edges[1:3]), tuple(edges[3:]))})


def test_a_nasbench201_network_has_the_benchmarks_sizes() -> None:
    convs = nasbench201_genotype(*["nor_conv_3x3"] * 6)
    with torch.device("meta"):
        network = ConvNetwork(convs, channels=16, layers=15)
        same = ConvNetwork(convs, channels=16, layers=17)
    assert len(network.cells) == len(same.cells) == 17
    assert network.auxiliary_head is None
    cells = sum(5 * 6 * (9 * c * c + 2 * c) for c in (16, 32, 64))
    blocks = sum(9 * c * 2 * c + 9 * 4 * c * c + 8 * c + 2 * c * c for c in (16, 32))
    ends = 3 * 9 * 16 + 2 * 16 + 2 * 64 + 64 * 10 + 10
    assert num_weights(network) == cells + blocks + ends == 1_531_546  # as the benchmark says


def test_nasbench201_cells_sum_their_edges_and_skip_what_is_none() -> None:
    genotype = nasbench201_genotype(
        "skip_connect", "none", "avg_pool_3x3", "none", "none", "skip_connect"
    )
    torch.manual_seed(0)
    network = ConvNetwork(genotype, channels=4, layers=3, drop_path=0.0)
    pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(network.cells[0]((x,)), pool(x))
    empty = nasbench201_genotype(*["none"] * 6)
    assert not ConvNetwork(empty, channels=4, layers=3).cells[0]((x,)).any()
    assert network(torch.randn(2, 3, 7, 9)).shape == (2, 10)  # odd sizes
    network = ConvNetwork(genotype, channels=4, layers=3, auxiliary=True)
    logits, auxiliary = network.forward_with_auxiliary(torch.randn(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 10)


@pytest.mark.parametrize("layers", [0, 1, 4, 7])
def test_stages_have_equally_many_cells(layers: int) -> None:
    genotype = nasbench201_genotype(*["skip_connect"] * 6)
    with pytest.raises(ConfigError, match="layers"):
        ConvNetwork(genotype, channels=4, layers=layers)


def test_nasbench201_cells_have_no_imagenet_network() -> None:
    with pytest.raises(ConfigError, match="use ConvNetwork"):
        ImageNetNetwork(nasbench201_genotype(*["skip_connect"] * 6))


def test_nodes_with_one_edge_and_with_none() -> None:
    nodes = ((Edge("skip_connect", 1),), (), (Edge("skip_connect", 0), Edge("skip_connect", 3)))
    genotype = Genotype({"normal": nodes, "reduce": nodes})
    cell = make_cell(genotype)
    x = torch.randn(2, 4, 3, 3)
    s0, s1 = cell.preprocess0(x), cell.preprocess1(x)
    expected = torch.cat([s1, torch.zeros_like(s1), s0], dim=1)
    torch.testing.assert_close(cell((x, x)), expected)
    network = ConvNetwork(genotype, channels=4, layers=3, auxiliary=False, num_classes=2)
    assert network(torch.randn(2, 3, 9, 8)).shape == (2, 2)


def test_noise_stays_in_derived_networks() -> None:
    noise = ConvGenotype(
        [("noise", 0), ("skip_connect", 1)], [2], [("noise", 0), ("noise", 1)], [2]
    )
    network = ConvNetwork(noise, channels=4, layers=3, auxiliary=False).eval()
    assert sum(isinstance(module, Noise) for module in network.modules()) == 1 + 2 * 2
    images = torch.randn(2, 3, 8, 8)
    assert not torch.equal(network(images), network(images))
