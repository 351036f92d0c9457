"""The fast recurrent supernet against the plain one, and its conventions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from darts_ray.errors import ConfigError, DataError
from darts_ray.interop.names import language_model
from darts_ray.nn import (
    Mixing,
    RecurrentDropout,
    RecurrentSupernet,
    Supernet,
    register_activation,
)
from darts_ray.space import SearchSpace
from tests.reference.recurrent_supernet import PlainRecurrentSupernet

pytestmark = pytest.mark.usefixtures("one_thread")

NO_DROPOUT = RecurrentDropout(0, 0, 0, 0, 0)
VOCABULARY, HIDDEN, TIME, BATCH = 11, 6, 5, 4


def batch(time: int = TIME, columns: int = BATCH) -> tuple[Tensor, Tensor]:
    tokens = torch.randint(VOCABULARY, (time + 1, columns))
    return tokens[:-1], tokens[1:]


def pair(
    nodes: int, dropout: RecurrentDropout
) -> tuple[RecurrentSupernet, PlainRecurrentSupernet]:
    """Return both implementations with the same weights, large enough to matter."""
    fast = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, nodes, dropout).double()
    plain = PlainRecurrentSupernet(VOCABULARY, HIDDEN, nodes, dropout).double()
    theirs = dict(plain.named_parameters())
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.normal_(std=0.5)
        for name, view in language_model(fast):
            theirs[name].copy_(view)
    plain.set_alphas(fast.alpha_recurrent)
    return fast, plain


def relative_error(ours: Tensor, reference: Tensor) -> float:
    return ((ours - reference).norm() / reference.norm()).item()


@pytest.mark.parametrize(
    ("nodes", "dropout"),
    [(1, NO_DROPOUT), (4, NO_DROPOUT), (8, NO_DROPOUT), (4, RecurrentDropout(word=0.1))],
)
def test_outputs_and_all_gradients_equal_the_plain_implementation(nodes, dropout):
    torch.manual_seed(0)
    fast, plain = pair(nodes, dropout)
    data = batch()
    state = torch.randn(1, BATCH, HIDDEN, dtype=torch.float64)
    results = []
    for net in (fast, plain):
        torch.manual_seed(1)  # the same dropout masks
        log_probs, hidden = net(data[0], state)
        torch.manual_seed(1)
        loss, next_state = net.stateful_loss(data, state, regularised=True)
        loss.backward()
        results.append((log_probs, hidden, loss, next_state))
    for ours, reference in zip(*results, strict=True):
        assert relative_error(ours, reference) < 1e-12
    for name, ours in gradients_in_original_layout(fast).items():
        reference = plain.get_parameter(name).grad
        assert relative_error(ours, reference) < 1e-10, name
    assert relative_error(fast.alpha_recurrent.grad, plain.alphas["recurrent"].grad) < 1e-10


def gradients_in_original_layout(net: RecurrentSupernet) -> dict[str, Tensor]:
    holder = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, len(net.cell.node_weights)).double()
    with torch.no_grad():
        for target, source in zip(holder.weights, net.weights, strict=True):
            target.copy_(source.grad)
    return {name: view.detach() for name, view in language_model(holder)}


@pytest.mark.parametrize("dropout", [NO_DROPOUT, RecurrentDropout(word=0.1)])
def test_the_plain_supernet_has_the_same_parameters_and_numbers(dropout):
    torch.manual_seed(0)
    fused, _ = pair(4, dropout)
    plain = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 4, dropout, fused=False).double()
    plain.load_state_dict(fused.state_dict())
    data = batch()
    gradients = []
    for net in (fused, plain):
        torch.manual_seed(1)
        gradients.append(torch.autograd.grad(net.loss(data), list(net.parameters())))
    for ours, reference in zip(*gradients, strict=True):
        assert relative_error(ours, reference) < 1e-10


def test_inactive_activations_add_nothing_and_have_no_gradient():
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 2, NO_DROPOUT).double()
    data = batch()
    p = torch.rand(3, 5, dtype=torch.float64)
    active = ((1,), (2, 3), ())
    mixing = Mixing({"recurrent": p.clone().requires_grad_()}, {"recurrent": active})
    loss = net.loss(data, mixing=mixing)
    (gradient,) = torch.autograd.grad(loss, mixing.weights["recurrent"])
    assert gradient.nonzero().tolist() == [[0, 1], [1, 2], [1, 3]]
    zeroed = p * (gradient != 0)
    assert torch.equal(loss, net.loss(data, mixing=Mixing({"recurrent": zeroed})))


def test_second_derivatives_equal_the_plain_implementation():
    torch.manual_seed(0)
    fast, plain = pair(3, NO_DROPOUT)
    data = batch()
    products = []
    for net, alphas in ((fast, fast.alpha_recurrent), (plain, plain.alphas["recurrent"])):
        inner = torch.autograd.grad(net.loss(data), net.weights, create_graph=True)
        squared = sum(g.square().sum() for g in inner)  # the same in either layout
        products.append(torch.autograd.grad(squared, [alphas, *net.weights]))
    ours, reference = products
    assert relative_error(ours[0], reference[0]) < 1e-10
    norms = [torch.cat([g.flatten() for g in gs[1:]]).norm() for gs in products]
    torch.testing.assert_close(norms[0], norms[1], rtol=1e-10, atol=0)


def test_mixed_edges_pass_numerical_gradient_checks():
    from darts_ray.nn.recurrent.activations import resolve_activations
    from darts_ray.nn.recurrent.fused.mixing import mixed_edges

    torch.manual_seed(0)
    activations = resolve_activations(["tanh", "relu", "sigmoid", "identity"])
    shapes = ((2, 6, 2), (3, 2), (4, 2, 1, 1))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def function(z: Tensor, s: Tensor, p: Tensor) -> Tensor:
        return mixed_edges(z, s, p, activations)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_none_takes_softmax_weight_and_adds_nothing():
    torch.manual_seed(0)
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 2, NO_DROPOUT).double()
    tokens, _ = batch()
    with torch.no_grad():
        net.alpha_recurrent.zero_()
        net.alpha_recurrent[:, 0] = 40.0  # softmax gives `none` all but 1e-17
        _, hidden = net(tokens, net.init_hidden(BATCH))
    # the nodes' sums vanish, and the normalisation's epsilon keeps them there
    assert hidden.abs().max() < 1e-12


def test_states_are_normalised_over_the_batch_and_the_output_is_their_mean():
    """With one node the output is that node: zero mean and unit variance over the batch."""
    torch.manual_seed(0)
    net, _ = pair(1, NO_DROPOUT)
    with torch.no_grad():
        _, hidden = net(batch(columns=64)[0], net.init_hidden(64))
    states = hidden[0]
    assert states.mean(0).abs().max() < 1e-12
    # variance v / (v + 1e-5) of the epsilon's convention, biased estimate
    assert ((1 - states.var(0, unbiased=False)).abs() < 1e-3).all()


def test_evaluation_drops_nothing_and_uses_batch_statistics():
    torch.manual_seed(0)
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 3).double()
    quiet = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 3, NO_DROPOUT).double()
    quiet.load_state_dict(net.state_dict())
    data = batch()
    expected = quiet.train().loss(data)
    for _ in range(3):
        net.train().loss(data)  # would move running statistics if there were any
    assert net.eval().loss(data) == expected
    assert net.train().loss(data) != expected
    assert not [name for name, _ in net.named_buffers() if "running" in name]


def test_one_mask_per_sequence_and_reproducible_draws():
    torch.manual_seed(0)
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 2, RecurrentDropout(0, 0.5, 0.5, 0.5, 0))
    hooked: list[Tensor] = []
    net.cell.register_forward_pre_hook(lambda _, args: hooked.append(args[2]))
    tokens = torch.full((6, BATCH), 3)
    state = net.init_hidden(BATCH)
    torch.manual_seed(5)
    first, _ = net(tokens, state)
    torch.manual_seed(5)
    again, _ = net(tokens, state)
    other, _ = net(tokens, state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    masks = hooked[0]
    assert masks.input.shape == masks.hidden.shape == (BATCH, HIDDEN)  # no time axis
    for mask in (masks.embedding, masks.input, masks.hidden):
        assert set(mask.unique().tolist()) == {0.0, 2.0}  # 1 / (1 - 0.5)
    assert masks.word is None
    assert masks.output is None


def test_tar_by_hand():
    torch.manual_seed(0)
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 2, tar_beta=0.5).double()
    data = batch()
    outputs: list[Tensor] = []
    net.cell.register_forward_hook(lambda *args: outputs.append(args[2]))
    losses = []
    for regularised in (False, True):
        torch.manual_seed(3)
        losses.append(net.stateful_loss(data, None, regularised=regularised)[0])
    raw = outputs[0]  # before the output dropout
    total = sum((raw[t] - raw[t - 1]).square().sum() for t in range(1, TIME))
    expected = 0.5 * total / ((TIME - 1) * BATCH * HIDDEN)
    torch.testing.assert_close(losses[1] - losses[0], expected, rtol=1e-12, atol=1e-15)


def test_tar_of_a_single_time_step_is_zero():
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 2, NO_DROPOUT)
    data = batch(time=1)
    assert net.stateful_loss(data, None, regularised=True)[0] == net.loss(data)


def test_hidden_state_is_carried_and_detached():
    torch.manual_seed(0)
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 2, NO_DROPOUT).double()
    tokens, targets = batch(time=6)
    _, whole = net.stateful_loss((tokens, targets), None)
    _, half = net.stateful_loss((tokens[:3], targets[:3]), net.initial_state(BATCH))
    assert not half.requires_grad
    assert half.untyped_storage().nbytes() == half.nbytes  # does not hold the sequence
    _, rest = net.stateful_loss((tokens[3:], targets[3:]), half)
    torch.testing.assert_close(rest, whole, rtol=1e-12, atol=1e-12)


def test_initialisation_and_parameters():
    torch.manual_seed(0)
    net = RecurrentSupernet(50, 20, 20)
    for weight in (net.embedding, net.cell.input_weight, net.cell.node_weights):
        assert weight.abs().max() <= 0.04
        assert weight.abs().max() > 0.038
        # the standard deviation of a uniform variable in ±a is a / sqrt(3)
        torch.testing.assert_close(weight.std().item(), 0.04 / 3**0.5, rtol=0.05, atol=0)
    assert not net.decoder_bias.any()
    assert net.alpha_recurrent.shape == (36, 5)  # 1 + 2 + ... + 8 edges
    assert 5e-4 < net.alpha_recurrent.std() < 2e-3
    assert {id(w) for w in net.weights} == {id(p) for p in net.parameters()} - {
        id(net.alpha_recurrent)
    }
    assert "alpha_recurrent" in net.state_dict()
    # tied embedding 50 * 20, bias 50, W0 40 * 40, eight W_i 20 * 40
    assert sum(w.numel() for w in net.weights) == 1000 + 50 + 1600 + 8 * 800


def test_protocol_and_genotype():
    net: Supernet = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 3)
    assert net.clips_virtual_step
    with torch.no_grad():
        net.alphas["recurrent"].zero_()
        net.alphas["recurrent"][2, 3] = 1.0  # node 2, from state 1: sigmoid
    genotype = net.genotype()
    assert [tuple(edge) for edge in genotype.recurrent] == [
        ("tanh", 0),
        ("sigmoid", 1),
        ("tanh", 0),
    ]
    assert genotype.concat == (1, 2, 3)


@pytest.mark.parametrize("position", ["tokens", "targets"])
def test_a_token_outside_the_vocabulary_is_an_error(position):
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 2)
    tokens, targets = batch()
    (tokens if position == "tokens" else targets)[2, 1] = VOCABULARY
    with pytest.raises(DataError, match=r"Token 11 .* vocabulary of 11"):
        net.loss((tokens, targets))


def test_a_single_column_is_an_error():
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 2)
    with pytest.raises(ConfigError, match="at least two columns"):
        net.loss(batch(columns=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embedding_dim": 5, "hidden_dim": 6}, "must be equal"),
        ({"space": "darts"}, "not for recurrent"),
        ({"space": SearchSpace.recurrent("odd", ("none", "swish"), 2)}, "'swish'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RecurrentSupernet(VOCABULARY, **arguments)


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_dropout_out_of_range_is_an_error(value):
    with pytest.raises(ConfigError, match=r"dropout.input"):
        RecurrentDropout(input=value)


def test_bfloat16_costs_little_more_than_plain_autocast():
    """The products of all edges at once round no more often than those of each by itself."""
    errors: dict[str, list[list[float]]] = {"fused": [], "plain": []}
    for seed in range(8):
        torch.manual_seed(seed)
        fused, _ = pair(4, NO_DROPOUT)
        plain = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 4, NO_DROPOUT, fused=False)
        plain.load_state_dict(fused.state_dict())
        data = batch()
        plain.loss(data).backward()
        exact = gathered(plain)
        for name, net in (("fused", fused.float()), ("plain", plain)):
            net.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss, state = net.stateful_loss(data, None)
            assert loss.dtype == state.dtype == torch.float32
            loss.backward()
            errors[name].append(
                [relative_error(*pair) for pair in zip(gathered(net), exact, strict=True)]
            )
    ours, theirs = (torch.tensor(errors[name]).mean(0) for name in ("fused", "plain"))
    assert (theirs > 1e-3).all()  # it is bfloat16
    assert (ours <= 1.5 * theirs).all(), (ours, theirs)


def gathered(net: RecurrentSupernet) -> tuple[Tensor, Tensor]:
    """Return the gradients of all weights as one vector, and that of the alphas."""
    weights = torch.cat([parameter.grad.flatten() for parameter in net.weights])
    return weights, net.alpha_recurrent.grad.flatten()


def test_own_activations_join_by_name():
    @register_activation("test_softsign")
    def softsign(h: Tensor) -> Tensor:
        return h / (1 + h.abs())

    assert register_activation("test_softsign")(softsign) is softsign  # again: allowed
    with pytest.raises(ConfigError, match="test_softsign"):
        register_activation("test_softsign")(nn.functional.gelu)

    torch.manual_seed(0)
    space = SearchSpace.recurrent("own", ("test_softsign", "none", "relu"), 2)
    net = RecurrentSupernet(VOCABULARY, HIDDEN, HIDDEN, 2, NO_DROPOUT, space=space).double()
    net.alpha_recurrent.data.normal_()
    data = batch(time=2, columns=3)

    def loss(alphas: Tensor, weights: Tensor) -> Tensor:
        values = {"alpha_recurrent": alphas, "cell.node_weights": weights}
        hidden = net.init_hidden(3)
        log_probs, _ = torch.func.functional_call(net, values, (data[0], hidden))
        return log_probs[..., :2].sum()

    inputs = [
        p.detach().clone().requires_grad_() for p in (net.alpha_recurrent, net.cell.node_weights)
    ]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, inputs, fast_mode=True)
