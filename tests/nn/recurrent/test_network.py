"""Derived recurrent networks against the plain implementation, sizes, dropout and training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from darts_ray.errors import ConfigError, DataError
from darts_ray.interop.names import language_model
from darts_ray.nn import RecurrentDropout, RecurrentNetwork, num_weights
from darts_ray.space import Edge, RecurrentGenotype, zoo
from tests.reference.recurrent_supernet import PlainRecurrentNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY, HIDDEN, TIME, BATCH = 11, 6, 5, 3
ZOO = ["RECURRENT_DARTS_V1", "RECURRENT_DARTS_V2", "ENAS"]


def batch() -> tuple[Tensor, Tensor]:
    tokens = torch.randint(VOCABULARY, (TIME + 1, BATCH))
    return tokens[:-1], tokens[1:]


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_plain_implementation(name, training):
    torch.manual_seed(0)
    dropout = RecurrentDropout(word=0.2)
    fast = RecurrentNetwork(zoo[name], VOCABULARY, HIDDEN, HIDDEN, dropout).double()
    plain = PlainRecurrentNetwork(zoo[name], VOCABULARY, HIDDEN, dropout).double()
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter.normal_(std=0.5)
        for key, view in language_model(fast):
            plain.get_parameter(key).copy_(view)
    data = batch()
    state = torch.randn(1, BATCH, HIDDEN, dtype=torch.float64)
    losses = []
    for net in (fast.train(training), plain.train(training)):
        torch.manual_seed(1)  # the same dropout masks
        loss, hidden = net.stateful_loss(data, state, regularised=True)
        loss.backward()
        losses.append(torch.cat([loss[None], hidden.flatten()]))
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    with torch.no_grad():  # gradients take the place of weights, so that the layout maps them
        for parameter in fast.parameters():
            parameter.copy_(parameter.grad)
    for key, gradient in language_model(fast):
        reference = plain.get_parameter(key).grad
        assert (gradient - reference).norm() < 1e-10 * reference.norm(), key


@pytest.mark.parametrize("name", ZOO[:2])
def test_parameters_at_the_size_of_the_paper(name):
    """Tied embedding 8.5M, bias 10,000, W0 1700 x 1700, eight W_i 1700 x 850."""
    with torch.device("meta"):
        net = RecurrentNetwork(zoo[name], vocab_size=10_000)
    assert num_weights(net) == 22_960_000


def test_evaluation_is_deterministic_and_training_is_not():
    torch.manual_seed(0)
    net = RecurrentNetwork(zoo["RECURRENT_DARTS_V1"], VOCABULARY, HIDDEN, HIDDEN)
    data = batch()
    assert net.loss(data) != net.loss(data)
    net.eval()
    assert net.loss(data) == net.loss(data)
    log_probs, hidden = net(data[0], net.init_hidden(BATCH))
    assert log_probs.shape == (TIME, BATCH, VOCABULARY)
    assert hidden.shape == (1, BATCH, HIDDEN)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(TIME, BATCH))


def test_a_single_column_works_without_normalisation():
    net = RecurrentNetwork(zoo["ENAS"], VOCABULARY, HIDDEN, HIDDEN).eval()
    tokens = torch.randint(VOCABULARY, (4, 2))
    both, _ = net(tokens, net.init_hidden(2))
    one, _ = net(tokens[:, :1], net.init_hidden(1))
    torch.testing.assert_close(one, both[:, :1])


def test_word_dropout_hides_the_same_words_everywhere():
    """Hidden words embed to zero, so positions with one word agree; kept ones are scaled up."""
    torch.manual_seed(0)
    only_words = RecurrentDropout(0, 0, 0, 0, 0.5)
    net = RecurrentNetwork(zoo["ENAS"], VOCABULARY, HIDDEN, HIDDEN, only_words)
    seen: list[Tensor] = []
    net.cell.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    tokens = torch.arange(VOCABULARY).repeat(2)[:, None].expand(-1, BATCH)
    net(tokens, net.init_hidden(BATCH))
    words = seen[0].detach()
    assert torch.equal(words[:VOCABULARY], words[VOCABULARY:])
    hidden = words[:VOCABULARY, 0].abs().sum(1) == 0
    assert 0 < hidden.sum() < VOCABULARY
    kept = ~hidden
    torch.testing.assert_close(words[:VOCABULARY, 0][kept], 2 * net.embedding.detach()[kept])


def test_a_few_steps_learn_a_repeating_text():
    torch.manual_seed(0)
    quiet = RecurrentDropout(0, 0, 0, 0, 0)
    net = RecurrentNetwork(zoo["RECURRENT_DARTS_V2"], 4, 16, 16, quiet)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    tokens = torch.arange(13)[:, None].remainder(4).expand(-1, 2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = net.loss((tokens[:-1], tokens[1:]))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1.386, abs=0.02)  # log 4: nothing known yet
    assert losses[-1] < 0.2


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="not that of a recurrent cell"):
        RecurrentNetwork(zoo["DARTS_V2"], VOCABULARY)
    unknown = RecurrentGenotype((Edge("swish", 0),), (1,))
    with pytest.raises(ConfigError, match="No activation is named 'swish'"):
        RecurrentNetwork(unknown, VOCABULARY, HIDDEN, HIDDEN)
    net = RecurrentNetwork(zoo["ENAS"], VOCABULARY, HIDDEN, HIDDEN)
    with pytest.raises(DataError, match=r"Token 99 .* vocabulary of 11"):
        net(torch.full((2, 2), 99), net.init_hidden(2))
