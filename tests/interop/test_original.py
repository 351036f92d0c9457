"""State dicts of the original code's layout give the original's numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from darts_ray.errors import CheckpointError
from darts_ray.interop import load_original
from darts_ray.nn import (
    ConvNetwork,
    ConvSupernet,
    ImageNetNetwork,
    RecurrentDropout,
    RecurrentNetwork,
    RecurrentSupernet,
    num_weights,
)
from darts_ray.nn.conv.connections import PartialChannels
from darts_ray.space import Edge, Genotype, zoo
from tests.reference import nasbench201, pc_darts
from tests.reference import original_layout as original
from tests.reference.recurrent_supernet import PlainRecurrentNetwork, PlainRecurrentSupernet

SMALL = {"channels": 4, "num_classes": 3, "layers": 3}
SUPERNET = {"channels": 2, "num_classes": 3, "layers": 3, "nodes": 2}
NO_DROPOUT = RecurrentDropout(0, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def _double_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(before)


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ((ours - theirs).norm() / theirs.norm()).item() < 1e-10


def search_network() -> original.SearchNetwork:
    net = original.SearchNetwork(2, 3, 3, nodes=2)
    original.randomise(net)
    return net


def tokens() -> tuple[Tensor, Tensor]:
    drawn = torch.randint(9, (5, 3))
    return drawn[:-1], drawn[1:]


def test_conv_supernet_logits_and_alpha_gradients():
    theirs = search_network()
    ours = load_original(ConvSupernet(**SUPERNET), theirs.state_dict(), theirs.alphas)
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    close(ours(images), theirs(images))
    ours.loss((images, labels)).backward()
    nn.functional.cross_entropy(theirs(images), labels).backward()
    for mine, alpha in zip(ours.alphas.values(), theirs.alphas, strict=True):
        close(mine.grad, alpha.grad)
    reference = dict(theirs.named_parameters())
    ours_norm = torch.cat([w.grad.flatten() for w in ours.weights]).norm()
    close(ours_norm, torch.cat([p.grad.flatten() for p in reference.values()]).norm())


@pytest.mark.parametrize("name", ["DARTS_V1", "DARTS_V2", "NASNet", "AmoebaNet"])
@pytest.mark.parametrize("imagenet", [False, True])
def test_derived_conv_networks_evaluate_alike(name, imagenet):
    theirs = original.DerivedNetwork(zoo[name], 4, 3, 3, imagenet)
    original.randomise(theirs)
    # the smallest images whose last inner map is what the original's auxiliary head expects
    build, size = (ImageNetNetwork, 224) if imagenet else (ConvNetwork, 32)
    ours = load_original(build(zoo[name], **SMALL), theirs.state_dict())
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        ours_out = ours.eval().forward_with_auxiliary(images)
        for mine, reference in zip(ours_out, theirs.eval()(images), strict=True):
            close(mine, reference)


@pytest.mark.parametrize("nodes", [3, 8])
def test_recurrent_supernet_log_probabilities_and_alpha_gradients(nodes):
    theirs = PlainRecurrentSupernet(9, 4, nodes, NO_DROPOUT)
    original.randomise(theirs)
    ours = RecurrentSupernet(9, 4, 4, nodes, NO_DROPOUT)
    load_original(ours, theirs.state_dict(), theirs.alphas["recurrent"])
    data = tokens()
    for mine, reference in zip(
        ours(data[0], ours.init_hidden(3)), theirs(data[0], theirs.init_hidden(3)), strict=True
    ):
        close(mine, reference)
    for net in (ours, theirs):
        net.loss(data).backward()
    close(ours.alphas["recurrent"].grad, theirs.alphas["recurrent"].grad)


@pytest.mark.parametrize("name", ["RECURRENT_DARTS_V1", "RECURRENT_DARTS_V2", "ENAS"])
def test_recurrent_network_log_probabilities(name):
    theirs = PlainRecurrentNetwork(zoo[name], 9, 4, NO_DROPOUT)
    original.randomise(theirs)
    ours = RecurrentNetwork(zoo[name], 9, 4, 4)
    load_original(ours, theirs.state_dict())
    hidden = torch.randn(1, 3, 4)
    for net in (ours, theirs):
        net.eval()
    log_probs, state = ours(data := tokens()[0], hidden)
    expected, expected_state = theirs(data, hidden)
    close(log_probs, expected)
    close(state, expected_state)


def state_of_a_derived_network() -> tuple[ConvNetwork, dict[str, Tensor]]:
    theirs = original.DerivedNetwork(zoo["DARTS_V2"], 4, 3, 3, imagenet=False)
    return ConvNetwork(zoo["DARTS_V2"], **SMALL), dict(theirs.state_dict())


def test_wrappers_are_removed():
    ours, state = state_of_a_derived_network()
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    load_original(ours, wrapped)
    assert torch.equal(ours.stem[0].weight, state["stem.0.weight"])


def test_batch_counters_of_old_checkpoints_may_be_missing():
    ours, state = state_of_a_derived_network()
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    load_original(ours, old)
    assert torch.equal(ours.stem[1].running_mean, state["stem.1.running_mean"])


def test_running_statistics_of_supernets_are_ignored_or_absent():
    state = dict(search_network().state_dict())
    without = {k: v for k, v in state.items() if "running" not in k and "num_batches" not in k}
    one = load_original(ConvSupernet(**SUPERNET), state)
    other = load_original(ConvSupernet(**SUPERNET), without)
    for a, b in zip(one.weights, other.weights, strict=True):
        assert torch.equal(a, b)


def test_the_network_keeps_its_dtype():
    ours, state = state_of_a_derived_network()
    load_original(ours.float(), state)
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    assert torch.equal(ours.classifier.weight, state["classifier.weight"].float())


ENTRIES = ["cells.0._ops.1.op.6.weight", "stem.1.running_var", "classifier.bias"]


@pytest.mark.parametrize("key", ENTRIES)
def test_missing_entries_are_named_and_nothing_is_written(key):
    ours, state = state_of_a_derived_network()
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    del state[key]
    with pytest.raises(CheckpointError, match=f"missing '{key}'"):
        load_original(ours, state)
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())


@pytest.mark.parametrize("key", ENTRIES)
def test_misshapen_entries_are_named(key):
    ours, state = state_of_a_derived_network()
    state[key] = torch.zeros(1, 2)
    with pytest.raises(CheckpointError, match=rf"'{key}' has shape \(1, 2\), the network"):
        load_original(ours, state)


def test_surplus_entries_are_named():
    ours, state = state_of_a_derived_network()
    with pytest.raises(CheckpointError, match=r"surplus 'cells.3.bn.running_mean'"):
        load_original(ours, state | {"cells.3.bn.running_mean": torch.zeros(4)})
    without_head = ConvNetwork(zoo["DARTS_V2"], **SMALL, auxiliary=False)
    with pytest.raises(CheckpointError, match=r"surplus 'auxiliary_head.*and 9 more"):
        load_original(without_head, state)


def test_surplus_statistics_of_supernets_are_named():
    state = search_network().state_dict()
    state["cells.7.preprocess1.op.2.running_mean"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match=r"surplus 'cells.7.preprocess1.op.2.running_mean'"):
        load_original(ConvSupernet(**SUPERNET), state)


def test_a_supernet_with_another_number_of_nodes_does_not_fit():
    theirs = search_network()
    with pytest.raises(CheckpointError, match=r"missing 'cells.0._ops.5"):
        load_original(ConvSupernet(**SUPERNET | {"nodes": 3}), theirs.state_dict())


def test_alphas_in_every_form():
    theirs = search_network()
    state = dict(theirs.state_dict())
    normal, reduce = (alpha.detach() for alpha in theirs.alphas)
    named = {"alphas_normal": normal, "alphas_reduce": reduce}
    for arguments in (
        (state, [normal, reduce]),
        (state, {"normal": normal, "reduce": reduce}),
        (state, named),
        (state | named,),  # ports that made them parameters
        (state | {"alphas_normal": reduce}, [normal, reduce]),  # the argument decides
    ):
        ours = load_original(ConvSupernet(**SUPERNET), *arguments)
        assert torch.equal(ours.alpha_normal, normal)
        assert torch.equal(ours.alpha_reduce, reduce)
    ours = ConvSupernet(**SUPERNET)
    own = ours.alpha_normal.detach().clone()
    assert torch.equal(load_original(ours, state).alpha_normal, own)


def test_recurrent_alphas_in_every_form():
    theirs = PlainRecurrentSupernet(9, 4, 2, NO_DROPOUT)
    state = dict(theirs.state_dict())
    alphas = theirs.alphas["recurrent"].detach()
    for arguments in (
        (state, alphas),
        (state, [alphas]),
        (state, {"recurrent": alphas}),
        (state, {"weights": alphas}),
        (state | {"weights": alphas, "rnns.0.weights": alphas},),
    ):
        ours = load_original(RecurrentSupernet(9, 4, 4, 2), *arguments)
        assert torch.equal(ours.alpha_recurrent, alphas)


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ([torch.zeros(5, 8)], "1 alpha matrices were given; the network has 2"),
        ([torch.zeros(5, 8), torch.zeros(14, 8)], r"'alphas_reduce' has shape \(14, 8\)"),
        ({"normal": torch.zeros(5, 8)}, r"keys \['normal'\]; expected \['normal', 'reduce'\]"),
    ],
)
def test_wrong_alphas_are_named(alphas, message):
    with pytest.raises(CheckpointError, match=message):
        load_original(ConvSupernet(**SUPERNET), search_network().state_dict(), alphas)


def test_derived_networks_take_no_alphas():
    ours, state = state_of_a_derived_network()
    with pytest.raises(CheckpointError, match="a derived network has none"):
        load_original(ours, state, [torch.zeros(14, 8)])


def test_the_decoder_must_repeat_the_encoder():
    theirs = PlainRecurrentSupernet(9, 4, 2, NO_DROPOUT)
    state = {k: v.clone() for k, v in theirs.state_dict().items()}
    state["decoder.weight"][3, 1] += 1
    with pytest.raises(CheckpointError, match=r"'decoder.weight' differs from 'encoder.weight'"):
        load_original(RecurrentSupernet(9, 4, 4, 2), state)
    del state["decoder.weight"]
    with pytest.raises(CheckpointError, match=r"missing 'decoder.weight'"):
        load_original(RecurrentSupernet(9, 4, 4, 2), state)


def test_a_decoder_of_nans_repeats_an_encoder_of_nans():
    state = {
        k: v.clone() for k, v in PlainRecurrentSupernet(9, 4, 2, NO_DROPOUT).state_dict().items()
    }
    state["encoder.weight"][3, 1] = state["decoder.weight"][3, 1] = torch.nan
    load_original(RecurrentSupernet(9, 4, 4, 2), state)
    state["decoder.weight"][3, 1] = 0
    with pytest.raises(CheckpointError, match=r"'decoder.weight' differs from 'encoder.weight'"):
        load_original(RecurrentSupernet(9, 4, 4, 2), state)


def test_entries_must_have_names():
    network, state = state_of_a_derived_network()
    with pytest.raises(CheckpointError, match=r"the entry 0; its entries must be tensors by name"):
        load_original(network, {0: state["stem.0.weight"]})


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model"])
def test_a_training_scripts_checkpoint_is_unwrapped(name):
    network, state = state_of_a_derived_network()
    load_original(network, {"epoch": 3, "optimizer": {"lr": 0.1}, name: state})
    with pytest.raises(CheckpointError, match=r"'epoch' is a int.*wrapped under one of: state_d"):
        load_original(network, {"epoch": 3, "my_net": state})


def test_what_is_no_state_dict_is_refused():
    ours, state = state_of_a_derived_network()
    with pytest.raises(CheckpointError, match="not a ConvNetwork"):
        load_original(ours, ours)
    with pytest.raises(CheckpointError, match="'best_top1' is a float"):
        load_original(ours, state | {"best_top1": 71.0})
    with pytest.raises(CheckpointError, match="no counterpart of a Linear"):
        load_original(nn.Linear(2, 2), {})


def gradients_agree(ours: ConvSupernet, theirs: nn.Module, alphas: list[Tensor]) -> None:
    """Compare logits, loss, alpha gradients, the norm of weight gradients, and sizes."""
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    close(ours(images), theirs(images))
    loss = ours.loss((images, labels))
    expected = nn.functional.cross_entropy(theirs(images), labels)
    close(loss, expected)
    given = [p for p in theirs.parameters() if not any(p is alpha for alpha in alphas)]
    mine = torch.autograd.grad(loss, [*ours.alphas.values(), *ours.weights])
    reference = torch.autograd.grad(expected, [*alphas, *given])
    for a, b in zip(mine, reference[: len(alphas)], strict=False):
        close(a, b)
    norms = [
        torch.cat([g.flatten() for g in gradients[len(alphas) :]]).norm()
        for gradients in (mine, reference)
    ]
    close(*norms)
    assert num_weights(ours) == sum(p.numel() for p in given)


@pytest.mark.parametrize("fused", [True, False])
def test_pc_darts_supernet(fused):
    theirs = pc_darts.SearchNetwork(8, 3, 3, nodes=3)
    original.randomise(theirs)
    alphas = [*theirs.alphas, *theirs.betas]
    ours = ConvSupernet(8, 3, 3, 3, connection=PartialChannels(4), fused=fused)
    ours.add_alphas({f"beta_{name}": torch.zeros(9) for name in ("normal", "reduce")})
    load_original(ours, theirs.state_dict(), alphas)
    gradients_agree(ours, theirs, alphas)
    for names in (
        ["normal", "reduce", "beta_normal", "beta_reduce"],
        ["alphas_normal", "alphas_reduce", "betas_normal", "betas_reduce"],
    ):
        ours = ConvSupernet(8, 3, 3, 3, connection=PartialChannels(4))
        ours.add_alphas({f"beta_{name}": torch.zeros(9) for name in ("normal", "reduce")})
        load_original(ours, theirs.state_dict(), dict(zip(names, alphas, strict=True)))
        assert torch.equal(ours.alphas["beta_reduce"], alphas[3])
    plain = ConvSupernet(8, 3, 3, 3)
    with pytest.raises(CheckpointError, match="has shape"):
        load_original(plain, theirs.state_dict(), theirs.alphas)


@pytest.mark.parametrize("fused", [True, False])
def test_nasbench201_supernet(fused):
    theirs = nasbench201.Network(4, 2, 3)
    original.randomise(theirs)
    state = theirs.state_dict()
    assert "cells.0.edges.1<-0.3.op.1.weight" in state
    ours = ConvSupernet(4, 3, 6, space="nasbench201", fused=fused)
    load_original(ours, state)  # the alphas are in the state dict
    gradients_agree(ours, theirs, [theirs.arch_parameters])
    alphas = torch.randn(6, 5)
    for given in (alphas, [alphas], {"cell": alphas}, {"arch_parameters": alphas}):
        load_original(ours, state, given)
        assert torch.equal(ours.alphas["cell"], alphas)
    del state["cells.1.edges.3<-2.2.op.1.bias"]
    with pytest.raises(CheckpointError, match=r"missing 'cells.1.edges.3<-2.2.op.1.bias'"):
        load_original(ours, state)


STRUCTURES = [
    [
        [("nor_conv_3x3", 0)],
        [("nor_conv_1x1", 0), ("skip_connect", 1)],
        [("none", 0), ("avg_pool_3x3", 1), ("nor_conv_3x3", 2)],
    ],
    [
        [("none", 0)],
        [("none", 0), ("none", 1)],
        [(f"nor_conv_{k}", j) for j, k in [(0, "1x1"), (1, "3x3"), (2, "3x3")]],
    ],
]


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("reverse", [False, True])
def test_nasbench201_networks_in_training_and_evaluation(structure, reverse):
    theirs = nasbench201.Network(4, 2, 3, structure)
    original.randomise(theirs)
    nodes = [[Edge(*edge) for edge in node] for node in structure]
    if reverse:  # the order of a node's edges in a genotype is free
        nodes = [node[::-1] for node in nodes]
    genotype = Genotype({"cell": tuple(map(tuple, nodes))})
    ours = ConvNetwork(genotype, 4, 3, 6, drop_path=0.0)
    load_original(ours, theirs.state_dict())
    images = torch.randn(4, 3, 8, 8)
    for mode in (False, True):
        with torch.no_grad():
            close(ours.train(mode)(images), theirs.train(mode)(images))
    assert num_weights(ours) == sum(p.numel() for p in theirs.parameters())
