from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from darts_ray.data import TextStream
from darts_ray.errors import DataError, NonFiniteLossError
from darts_ray.train import RetrainRun
from darts_ray.train.evaluation import evaluate_network
from darts_ray.train.tasks.text import TextTask
from tests.train.conftest import VOCABULARY, make_text, make_tokens, text_config

CLOCKS = ("seconds", "samples_per_second", "peak_memory_bytes")
NO_DROPOUT = {"output": 0, "hidden": 0, "input": 0, "embedding": 0, "word": 0}


def _train(run: RetrainRun, epochs: int | None = None) -> list[dict[str, Any]]:
    metrics = []
    while not run.finished and (epochs is None or len(metrics) < epochs):
        metrics.append(run.run_epoch())
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in metrics]


def _weights(run: RetrainRun) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in run.network.parameters()]


def test_metrics_of_an_epoch_and_learning() -> None:
    run = RetrainRun(text_config(network={"dropout": NO_DROPOUT}), make_text())
    first = run.run_epoch()
    assert set(first) == {
        "epoch",
        "lr",
        "train_loss",
        "validation_loss",
        "validation_perplexity",
        "averaging",
        "rolled_back",
        *CLOCKS,
    }
    assert first["validation_perplexity"] == pytest.approx(
        torch.tensor(first["validation_loss"], dtype=torch.float64).exp().item(), rel=1e-12
    )
    # an untrained network's perplexity is the size of the vocabulary
    assert _train(run)[-1]["validation_perplexity"] < 0.6 * VOCABULARY


def test_learning_rate_follows_sequence_length(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    rates: list[float] = []
    draw = TextStream.next

    def spy(self: TextStream) -> tuple[Tensor, Tensor]:
        batch = draw(self)
        lengths.append(len(batch[0]))
        return batch

    monkeypatch.setattr(TextStream, "next", spy)
    step = torch.optim.SGD.step

    def step_and_note(self: torch.optim.SGD, *arguments: Any, **options: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", step_and_note)
    RetrainRun(text_config(), make_text()).run_epoch()
    assert len(set(lengths)) > 1
    assert rates == pytest.approx([5.0 * length / 10 for length in lengths], rel=1e-12)


def test_hidden_states_start_from_zero_each_epoch_and_are_carried() -> None:
    states: list[Tensor] = []
    run = RetrainRun(text_config(), make_text())
    loss = run.network.stateful_loss

    def spy(batch: Any, state: Tensor, **options: Any) -> Any:
        if options.get("regularised"):  # as in training
            states.append(state.clone())
        return loss(batch, state, **options)

    run.network.stateful_loss = spy
    run.run_epoch()
    num_steps = len(states)
    run.run_epoch()
    assert not states[0].any()
    assert not states[num_steps].any()
    assert all(state.any() for state in states[1:num_steps])


# With a patience of 1 and a rate that overshoots, averaging begins early in these six epochs.
AVERAGED: dict[str, Any] = {"epochs": 6, "optim": {"lr": 40.0, "asgd_patience": 1}}


@pytest.mark.parametrize("interrupted_after", range(1, 6))
def test_resumed_run_equals_an_uninterrupted_one(interrupted_after: int) -> None:
    config = text_config(**AVERAGED)
    whole = RetrainRun(config, make_text())
    rows = _train(whole)
    switch = next(row["epoch"] for row in rows if row["averaging"])
    assert 1 < switch < 6  # so that some interruptions come before it and some after
    first = RetrainRun(config, make_text())
    before = _train(first, interrupted_after)
    state = first.state_dict()  # a copy, which the epochs to come leave alone
    _train(first, 1)  # what happens after the checkpoint is lost
    torch.manual_seed(99)
    second = RetrainRun(config, make_text())
    second.load_state_dict(state)
    assert before + _train(second) == rows
    for left, right in zip(_weights(second), _weights(whole), strict=True):
        assert torch.equal(left, right)
    ours, theirs = second.state_dict()["average"], whole.state_dict()["average"]
    for left, right in zip(ours["mean"], theirs["mean"], strict=True):
        assert torch.equal(left, right)
    assert ours["count"] == theirs["count"]


def test_state_loads_as_plain_values(tmp_path: Any) -> None:
    config = text_config(**AVERAGED)
    run = RetrainRun(config, make_text())
    _train(run, 5)
    torch.save(run.state_dict(), tmp_path / "state.pt")
    other = RetrainRun(config, make_text())
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert _train(other) == _train(run)


def test_averaged_weights_are_validated_and_tested() -> None:
    data = make_text(open_test=lambda: make_tokens(60, 1))
    run = RetrainRun(text_config(**AVERAGED), data)
    rows = _train(run)
    latest = _weights(run)
    # this test text is the validation text, so the scores must agree
    scores = run.test()
    assert scores["test_loss"] == rows[-1]["validation_loss"]
    for left, right in zip(_weights(run), latest, strict=True):
        assert torch.equal(left, right)
    unaveraged = evaluate_network(run.network, run.config, data, device=torch.device("cpu"))
    assert unaveraged["test_loss"] != scores["test_loss"]


def _infect(run: RetrainRun, epochs: set[int]) -> None:
    """Make the loss infinite at the second step of some epochs (counted from 1)."""
    loss, steps = run.network.stateful_loss, Counter[int]()

    def infected(*arguments: Any, **options: Any) -> Any:
        value, state = loss(*arguments, **options)
        if options.get("regularised"):  # as in training
            epoch = run.epochs_done + 1
            steps[epoch] += 1
            if steps[epoch] == 2 and epoch in epochs:
                value = value + float("inf")
        return value, state

    run.network.stateful_loss = infected


def test_infinite_loss_returns_to_the_best_weights(caplog: pytest.LogCaptureFixture) -> None:
    config = text_config()
    healthy = RetrainRun(config, make_text())
    rows = _train(healthy, 2)
    best = min(rows, key=lambda row: row["validation_loss"])
    run = RetrainRun(config, make_text())
    _infect(run, {3})
    with caplog.at_level(logging.WARNING):
        infected = _train(run)
    assert "epoch 3, step 2" in caplog.text
    assert [row["rolled_back"] for row in infected] == [0, 0, 1, 0]
    assert [row["epoch"] for row in infected] == [1, 2, 3, 4]
    assert "train_loss" not in infected[2]
    assert infected[2]["validation_loss"] == best["validation_loss"]
    assert infected[3]["train_loss"] > 0


def test_rollback_undoes_averaging_that_began_after_the_best_epoch() -> None:
    run = RetrainRun(text_config(**AVERAGED), make_text())
    switch = 0
    while run.state_dict()["average"] is None:
        run.run_epoch()
        switch = run.epochs_done
    _infect(run, {switch + 1})
    row = run.run_epoch()
    # averaging is triggered by a worse epoch, so the best weights are from before it
    assert row["rolled_back"] == 1.0
    assert row["averaging"] == 0.0
    assert run.state_dict()["average"] is None


def test_infinite_loss_without_good_weights_is_an_error() -> None:
    run = RetrainRun(text_config(), make_text())
    _infect(run, {1})
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, step 2.*no epoch before"):
        run.run_epoch()


def test_an_epoch_whose_validation_diverges_reports_no_loss_that_was_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = RetrainRun(text_config(), make_text())
    run.run_epoch()
    validate, calls = TextTask.validate, []

    def diverge_once(self: TextTask, epoch: int) -> dict[str, float]:
        calls.append(epoch)
        if len(calls) == 1:
            raise NonFiniteLossError("The validation loss became nan.")
        return validate(self, epoch)

    monkeypatch.setattr(TextTask, "validate", diverge_once)
    row = run.run_epoch()
    assert row["rolled_back"] == 1.0
    assert "train_loss" not in row


def test_rollbacks_in_a_row_are_limited() -> None:
    run = RetrainRun(text_config(epochs=9, optim={"max_rollbacks": 2}), make_text())
    _infect(run, {2, 3, 5, 6, 7})
    rows = _train(run, 6)
    assert [row["rolled_back"] for row in rows] == [0, 1, 1, 0, 1, 1]
    with pytest.raises(NonFiniteLossError, match="2 returns"):
        run.run_epoch()


def test_training_stops_when_nothing_improves() -> None:
    # a rate this small changes nothing that float32 can see in the validation loss
    config = text_config(epochs=20, optim={"lr": 1e-30, "stop_patience": 3})
    run = RetrainRun(config, make_text(open_test=lambda: make_tokens(60, 3)))
    assert len(_train(run)) == 4
    assert run.finished
    assert "test_perplexity" in run.test()
    resumed = RetrainRun(config, make_text())
    resumed.load_state_dict(run.state_dict())
    assert resumed.finished


def test_accumulation_equals_a_larger_batch() -> None:
    runs = [
        RetrainRun(
            text_config(batch_size=size, eval_batch_size=4, network={"dropout": NO_DROPOUT},
                        optim={"accumulate": k, "lr": 1.0}),
            make_text(),
        )
        for size, k in ((6, 1), (2, 3))
    ]  # fmt: skip
    plain, accumulated = (_train(run, 2) for run in runs)
    for left, right in zip(plain, accumulated, strict=True):
        assert right["train_loss"] == pytest.approx(left["train_loss"], rel=1e-5)
    for left, right in zip(*(run.network.parameters() for run in runs), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("option", "tolerance"), [({"precision": "bfloat16"}, 0.02), ({"deterministic": True}, 0.0)]
)
def test_options_agree_with_the_plain_path(option: dict[str, Any], tolerance: float) -> None:
    plain = _train(RetrainRun(text_config(epochs=2), make_text()))
    other = _train(RetrainRun(text_config(epochs=2, **option), make_text()))
    for left, right in zip(plain, other, strict=True):
        for name in ("train_loss", "validation_loss"):
            assert right[name] == pytest.approx(left[name], rel=tolerance)


def test_training_never_opens_the_test_text() -> None:
    run = RetrainRun(text_config(epochs=2), make_text())  # opening it raises
    assert len(_train(run)) == 2
    with pytest.raises(AssertionError, match="was opened"):
        run.test()


def test_short_texts_are_told_before_training() -> None:
    with pytest.raises(DataError, match="too short"):
        RetrainRun(text_config(batch_size=100), make_text())
    with pytest.raises(DataError, match="too short"):
        RetrainRun(text_config(eval_batch_size=50), make_text())  # 60 validation tokens


def test_a_test_text_that_is_too_short_is_told_before_training() -> None:
    data = dataclasses.replace(make_text(), test_checker=lambda: 7)
    with pytest.raises(DataError, match="7 tokens is too short for a batch of 4"):
        RetrainRun(text_config(), data)
    RetrainRun(text_config(test_batch_size=3), data)
