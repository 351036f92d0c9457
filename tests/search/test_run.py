"""Whole searches: metrics, exact resume, determinism, schedule, errors."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from darts_ray.config import SearchConfig
from darts_ray.errors import CheckpointError, ConfigError, DataError, NonFiniteLossError
from darts_ray.search import BilevelStep, SearchRun
from darts_ray.space import Genotype
from tests.search.identical import assert_identical
from tests.search.small import image_config, image_data, text_config, text_data

KINDS: dict[str, tuple[Callable[..., SearchConfig], Callable[..., Any]]] = {
    "image": (image_config, image_data),
    "text": (text_config, text_data),
}
CPU = torch.device("cpu")


def make(kind: str, **values: Any) -> SearchRun:
    config, data = KINDS[kind]
    return SearchRun(config(**values), data(), CPU)


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    measured = ("seconds", "samples_per_second", "peak_memory_bytes")
    return {key: value for key, value in metrics.items() if key not in measured}


def test_a_method_without_trained_alphas_has_a_cell_at_its_end_only() -> None:
    method = {"name": "random_ws", "samples": 3, "batches": 1, "finalists": 1}
    run = make("image", method=method, epochs=3, max_steps=1)
    rows = [run.run_epoch() for _ in range(3)]
    for row in rows[:2]:
        assert not {"genotype", "num_skip"} & set(row)
    assert Genotype.from_json(rows[2]["genotype"]) == run.genotype()
    assert rows[2]["num_skip"] == run.genotype().num_skip
    # random cells are drawn in their only epoch
    assert "genotype" in make("image", method="random").run_epoch()


@pytest.mark.parametrize("kind", KINDS)
def test_metrics_of_an_epoch(kind: str) -> None:
    run = make(kind)
    calls: list[tuple[int, int]] = []
    metrics = run.run_epoch(lambda done, total: calls.append((done, total)))
    json.dumps(metrics)  # plain values only
    expected = {
        "epoch", "train_loss", "valid_loss", "validation_loss", "weight_lr", "grad_norm",
        "seconds", "samples_per_second", "peak_memory_bytes", "genotype", "alphas",
    } | (
        {"validation_accuracy", "num_skip"} if kind == "image" else {"validation_perplexity"}
    )  # fmt: skip
    assert set(metrics) == expected
    assert metrics["epoch"] == run.epochs_done == 1
    assert Genotype.from_json(metrics["genotype"]) == run.genotype()
    assert metrics["alphas"] == run.alphas()
    for rows in metrics["alphas"].values():
        assert all(sum(row) == pytest.approx(1) for row in rows)
    assert [done for done, _ in calls] == list(range(1, len(calls) + 1))
    if kind == "image":
        # half of 41 images in batches of 6: the last has 2
        assert calls[-1] == (4, 4)
        assert 0 <= metrics["validation_accuracy"] <= 1
    else:
        assert metrics["validation_perplexity"] == pytest.approx(
            math.exp(metrics["validation_loss"])
        )


@pytest.mark.parametrize("kind", KINDS)
def test_resume_equals_an_uninterrupted_run(kind: str) -> None:
    whole = make(kind, epochs=3, max_steps=3)
    expected = [without_times(whole.run_epoch()) for _ in range(3)]

    first = make(kind, epochs=3, max_steps=3)
    assert without_times(first.run_epoch()) == expected[0]
    file = io.BytesIO()
    state = first.state_dict()
    torch.save(state, file)
    # a state is a snapshot: what happens after it does not change it
    assert without_times(first.run_epoch()) == expected[1]
    first.load_state_dict(state)
    assert without_times(first.run_epoch()) == expected[1]

    file.seek(0)
    second = make(kind, epochs=3, max_steps=3)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.epochs_done == 1
    assert [without_times(second.run_epoch()) for _ in range(2)] == expected[1:]
    assert_identical(whole.state_dict(), second.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_one_result_whatever_else_the_process_does(kind: str) -> None:
    before = torch.get_rng_state()
    one, other = (make(kind, deterministic=True, max_steps=2) for _ in range(2))
    results = []
    for _ in range(2):  # interleaved, with foreign draws in between
        results.append(without_times(one.run_epoch()))
        assert torch.equal(before, torch.get_rng_state())
        torch.rand(3)
        assert without_times(other.run_epoch()) == results[-1]
        torch.set_rng_state(before)
    assert_identical(one.state_dict(), other.state_dict())
    assert not torch.are_deterministic_algorithms_enabled()
    assert without_times(make(kind, seed=1, max_steps=2).run_epoch()) != results[0]


def test_seeds_do_not_change_the_split_but_split_seeds_do() -> None:
    def held_out(**values: Any) -> set[int]:
        run = make("image", **values)
        targets = [batch[0] for batch in run.batches.evaluation_batches()]
        return set(torch.cat(targets).flatten(1).double().mul(1e6).sum(1).long().tolist())

    assert held_out(seed=0) == held_out(seed=1)
    assert held_out() != held_out(data={"split_seed": 1})


def test_cosine_schedule_per_epoch() -> None:
    run = make("image", max_steps=1)
    rates = [run.run_epoch()["weight_lr"] for _ in range(4)]
    # weight_lr 0.1, lower end 0.001, (1 + cos(pi e / 4)) / 2
    expected = [0.001 + 0.099 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(4)]
    assert rates == pytest.approx(expected)
    with pytest.raises(ConfigError, match="all 4 epochs"):
        run.run_epoch()


def test_text_learning_rate_scales_with_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make("text")
    seen = []
    step = BilevelStep.step

    def watched(self: BilevelStep, train: Any, valid: Any) -> Any:
        seen.append((len(train[0]), len(valid[0]), self.weight_lr))
        return step(self, train, valid)

    monkeypatch.setattr(BilevelStep, "step", watched)
    assert run.run_epoch()["weight_lr"] == 2.0
    assert {length for length, _, _ in seen} >= {5, 10}
    assert all(rate == pytest.approx(2.0 * length / 10) for length, _, rate in seen)


@pytest.mark.parametrize("kind", KINDS)
def test_max_steps(kind: str) -> None:
    calls = []
    make(kind, max_steps=2).run_epoch(lambda *call: calls.append(call))
    assert calls == [(1, 2), (2, 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16(kind: str) -> None:
    metrics = make(kind, precision="bfloat16", max_steps=2).run_epoch()
    assert math.isfinite(metrics["validation_loss"])
    assert metrics["train_loss"] != make(kind, max_steps=2).run_epoch()["train_loss"]


@pytest.mark.parametrize("kind", KINDS)
def test_non_finite_loss_names_epoch_and_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(kind, max_steps=4, optim={"order": "first"})
    run.run_epoch()
    good = run.state_dict()
    step = BilevelStep.step
    count = 0

    def poisoned(self: BilevelStep, train: Any, valid: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            with torch.no_grad():
                run.supernet.weights[0].fill_(math.nan)
        return step(self, train, valid)

    monkeypatch.setattr(BilevelStep, "step", poisoned)
    with pytest.raises(NonFiniteLossError, match="epoch 2, step 3"):
        run.run_epoch()
    assert count == 3  # nothing was trained after it
    assert run.epochs_done == 1
    monkeypatch.undo()
    run.load_state_dict(good)
    assert run.run_epoch()["epoch"] == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_alphas_that_are_not_finite_are_no_wrong_configuration(kind: str, value: float) -> None:
    run = make(kind, max_steps=1)
    run.begin_epoch()
    run.step()
    with torch.no_grad():
        next(iter(run.supernet.alphas.values()))[0, 0] = value
    with pytest.raises(NonFiniteLossError, match=r"alphas of .* not finite after epoch 1"):
        run.end_epoch()


@pytest.mark.parametrize("kind", KINDS)
def test_hessian_metric(kind: str) -> None:
    run = make(kind, hessian_every=2, max_steps=1)
    assert "dominant_eigenvalue" not in run.run_epoch()
    state = run.state_dict()
    with_metric = run.run_epoch()
    assert math.isfinite(with_metric.pop("dominant_eigenvalue"))
    plain = make(kind, max_steps=1)
    plain.load_state_dict(state)
    assert without_times(plain.run_epoch()) == without_times(with_metric)  # no side effect


def test_a_method_without_alphas_has_no_curvature_in_them() -> None:
    """Not even one of 0, which a table would show as the flattest of all."""
    run = make("image", method="random_ws", hessian_every=1, max_steps=1)
    assert "dominant_eigenvalue" not in run.run_epoch()


@pytest.mark.parametrize("spoil", ["supernet", "other network", "missing"])
def test_an_unfit_checkpoint(spoil: str) -> None:
    run = make("image")
    state = run.state_dict()
    if spoil == "missing":
        del state["feed"]
    elif spoil == "supernet":
        del state["supernet"]["alpha_normal"]
    else:
        state = make("text").state_dict()
    with pytest.raises(CheckpointError):
        run.load_state_dict(state)


@pytest.mark.parametrize(
    ("values", "data", "error", "message"),
    [
        ({"batch_size": 21}, image_data(), DataError, "batch_size"),
        ({"batch_size": 1}, image_data(), ConfigError, "batch_size"),
        ({}, image_data(num=0), DataError, "empty"),
        ({}, image_data(num=1), DataError, "split|empty"),
        ({}, image_data(size=2), ConfigError, "too small"),
        ({}, text_data(), ConfigError, "data.source"),
    ],
)
def test_bad_input_fails_before_training(
    values: dict[str, Any], data: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SearchRun(image_config(**values), data, CPU)


def test_labels_out_of_range() -> None:
    data = image_data()
    data.train.labels[7] = 3
    with pytest.raises(DataError, match=r"from 0 to 3, but the number of classes is 3"):
        SearchRun(image_config(), data, CPU)


def test_wrong_number_of_channels() -> None:
    data = image_data()
    data.train.images = data.train.images.repeat(1, 3, 1, 1)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="shape"):
        SearchRun(image_config(), data, CPU)


@pytest.mark.parametrize(
    ("values", "data", "message"),
    [
        ({}, text_data(train=12), "too short"),
        ({"eval_batch_size": 40}, text_data(), "eval_batch_size"),
    ],
)
def test_text_too_short(values: dict[str, Any], data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SearchRun(text_config(**values), data, CPU)


def test_tokens_outside_the_vocabulary() -> None:
    data = text_data()
    data.valid[3] = 6
    with pytest.raises(DataError, match="validation text"):
        SearchRun(text_config(), data, CPU)


def test_compile_and_double_backward_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="compile"):
        make("image", compile=True, optim={"order": "unrolled", "hvp": "exact"})
    with pytest.raises(ConfigError, match="compile"):
        make("image", compile=True, hessian_every=1)


@pytest.mark.parametrize(("kind", "num_cells"), [("image", 3), ("text", 1)])
def test_compile_reaches_every_cell(
    kind: str, num_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # compiling takes minutes; that each cell's call goes through torch.compile is enough here
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda cell, dynamic: compiled.append(cell))
    run = make(kind, compile=True)
    assert len(compiled) == num_cells
    assert all(any(cell is module for module in run.supernet.modules()) for cell in compiled)
