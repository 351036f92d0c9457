from __future__ import annotations

import dataclasses
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from darts_ray.data import ImageSplit, split_indices
from darts_ray.errors import CheckpointError, ConfigError, DataError, NonFiniteLossError
from darts_ray.train import RetrainRun
from tests.train.conftest import image_config, image_split, make_images

CLOCKS = ("seconds", "samples_per_second", "peak_memory_bytes")


def _train(run: RetrainRun, epochs: int | None = None) -> list[dict[str, Any]]:
    """Run epochs and return their metrics without those that depend on the machine."""
    metrics = []
    while not run.finished and (epochs is None or len(metrics) < epochs):
        metrics.append(run.run_epoch())
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in metrics]


def _weights(run: RetrainRun) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in run.network.state_dict().items()}


def _same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def test_metrics_of_an_epoch() -> None:
    run = RetrainRun(image_config(train_portion=0.5), make_images())
    steps: list[tuple[int, int]] = []
    first = run.run_epoch(lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]  # 12 training images in batches of 6
    assert set(first) == {
        "epoch",
        "lr",
        "drop_path",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "validation_top5",
        *CLOCKS,
    }
    assert (first["epoch"], first["lr"], first["drop_path"]) == (1, 0.025, 0.0)
    assert first["validation_top5"] == 1.0  # of three classes
    assert first["peak_memory_bytes"] > 2**20
    second = run.run_epoch()
    assert second["drop_path"] == pytest.approx(0.2 / 4)
    # 0.025 * (1 + cos(pi / 4)) / 2
    assert second["lr"] == pytest.approx(0.025 * (1 + 0.5**0.5) / 2, rel=1e-12)
    assert (run.epochs_done, run.epochs, run.finished) == (2, 4, False)


def test_training_learns_and_everything_is_used_without_a_portion() -> None:
    config = image_config(
        epochs=6, network={"channels": 4, "drop_path": 0.0}, optim={"lr": 0.1}, batch_size=12
    )
    rows = _train(RetrainRun(config, make_images(48)))
    assert "validation_loss" not in rows[0]
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]


def test_split_is_that_of_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Tensor] = []
    original = ImageSplit.read

    def spy(self: ImageSplit, order: Tensor, batch_size: int, **options: Any) -> Any:
        read.append(order)
        return original(self, order, batch_size, **options)

    monkeypatch.setattr(ImageSplit, "read", spy)
    config = image_config(train_portion=0.75, data={"split_seed": 7})
    RetrainRun(config, make_images()).run_epoch()
    train, held_out = split_indices(24, 0.75, 7)
    assert torch.equal(read[0].sort().values, train.sort().values)
    assert torch.equal(read[1], held_out)


@pytest.mark.parametrize("interrupted_after", [1, 3])
def test_resumed_run_equals_an_uninterrupted_one(interrupted_after: int) -> None:
    config = image_config(train_portion=0.5)
    whole = RetrainRun(config, make_images())
    rows = _train(whole)
    first = RetrainRun(config, make_images())
    before = _train(first, interrupted_after)
    state = first.state_dict()  # a copy, which the epochs to come leave alone
    _train(first, 1)  # what happens after the checkpoint is lost
    torch.manual_seed(99)  # other draws in the process must not matter
    second = RetrainRun(config, make_images())
    second.load_state_dict(state)
    assert second.epochs_done == interrupted_after
    assert before + _train(second) == rows
    assert _same(_weights(second), _weights(whole))


def test_state_loads_as_plain_values(tmp_path: Any) -> None:
    config = image_config()
    run = RetrainRun(config, make_images())
    run.run_epoch()
    torch.save(run.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    other = RetrainRun(config, make_images())
    other.load_state_dict(state)
    assert _train(other, 1) == _train(run, 1)


def test_seed_decides() -> None:
    rows = [_train(RetrainRun(image_config(seed=s), make_images()), 1) for s in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize(
    "change", [{"train_portion": 0.75}, {"data": {"split_seed": 7}}, {"data": {"max_train": 20}}]
)
def test_a_state_with_other_split_settings_is_refused(change: dict[str, Any]) -> None:
    run = RetrainRun(image_config(train_portion=0.5), make_images())
    other = RetrainRun(image_config(**{"train_portion": 0.5, **change}), make_images())
    with pytest.raises(CheckpointError, match="held out would be trained on"):
        other.load_state_dict(run.state_dict())
    older = {name: value for name, value in run.state_dict().items() if name != "split"}
    run.load_state_dict(older)


def test_state_of_other_data_or_networks_is_refused() -> None:
    state = RetrainRun(image_config(), make_images()).state_dict()
    wider = RetrainRun(image_config(network={"channels": 3}), make_images())
    with pytest.raises(CheckpointError, match="size mismatch"):
        wider.load_state_dict(state)
    same = RetrainRun(image_config(), make_images())
    with pytest.raises(CheckpointError, match="other data"):
        same.load_state_dict({**state, "fingerprint": "other"})
    with pytest.raises(CheckpointError, match="rng"):
        same.load_state_dict({name: value for name, value in state.items() if name != "rng"})


class _Linear(nn.Module):
    """A network without batch norm, where accumulation must be exact."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_path = 0.0
        self.layer = nn.Linear(3 * 8 * 8, 3)
        self.auxiliary = nn.Linear(3 * 8 * 8, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.flatten(1)
        return self.layer(pixels), self.auxiliary(pixels)


def test_accumulation_equals_a_larger_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darts_ray.train.run.build_network", lambda *_: _Linear().double())
    monkeypatch.setattr(
        "darts_ray.data.image_stream.Normalise",
        lambda *_, **__: lambda images: images.double() / 255,
    )
    # 26 images: batches of 12, 12 and 2; the accumulating run cuts them into 4+4+4 and 2
    runs = [
        RetrainRun(image_config(batch_size=size, optim={"accumulate": k}), make_images(26))
        for size, k in ((12, 1), (4, 3))
    ]
    plain, accumulated = ([row["train_loss"] for row in _train(run, 2)] for run in runs)
    assert accumulated == pytest.approx(plain, rel=1e-6)  # reported in float32
    for left, right in zip(*(run.network.parameters() for run in runs), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)


def test_auxiliary_head_and_label_smoothing_enter_the_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Constant(_Linear):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            zeros = self.layer(images.flatten(1)) * 0
            return zeros + torch.tensor([2.0, 0.0, 0.0]), zeros

    monkeypatch.setattr("darts_ray.train.run.build_network", lambda *_: Constant())
    data = make_images()
    data.train.labels.zero_()
    config = image_config(optim={"label_smoothing": 0.3}, network={"auxiliary_weight": 0.4})
    row = RetrainRun(config, data).run_epoch()
    # log-sum-exp of (2, 0, 0) is log(9.389056) = 2.239545; the smoothed target is
    # (0.8, 0.1, 0.1): loss 2.239545 - 1.6; the uniform head adds 0.4 * log 3
    assert row["train_loss"] == pytest.approx(0.639545 + 0.4 * 1.098612, abs=1e-5)
    assert row["train_accuracy"] == 1.0


def test_a_last_single_image_is_left_out() -> None:
    run = RetrainRun(image_config(batch_size=8), make_images(25))
    steps: list[int] = []
    run.run_epoch(lambda done, _: steps.append(done))
    assert steps == [1, 2, 3]


def test_max_steps_limits_the_epoch() -> None:
    run = RetrainRun(image_config(max_steps=2), make_images())
    steps: list[tuple[int, int]] = []
    run.run_epoch(lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("option", "tolerance"),
    [
        ({"channels_last": False}, 1e-4),
        ({"precision": "bfloat16"}, 0.05),  # eight bits of mantissa
        ({"deterministic": True}, 0.0),
    ],
)
def test_options_agree_with_the_plain_path(option: dict[str, Any], tolerance: float) -> None:
    data = make_images(size=32)
    changes: dict[str, Any] = {"train_portion": 0.5, "network": {"auxiliary": True}, "epochs": 2}
    plain = _train(RetrainRun(image_config(**changes), data))
    other = _train(RetrainRun(image_config(**changes, **option), data))
    for left, right in zip(plain, other, strict=True):
        for name in ("train_loss", "validation_loss"):
            assert right[name] == pytest.approx(left[name], rel=tolerance)


def test_deterministic_flags_are_put_back() -> None:
    seen = []
    run = RetrainRun(image_config(deterministic=True), make_images())
    run.run_epoch(lambda *_: seen.append(torch.are_deterministic_algorithms_enabled()))
    assert all(seen)
    assert not torch.are_deterministic_algorithms_enabled()


def test_infinite_loss_names_epoch_and_step() -> None:
    run = RetrainRun(image_config(), make_images())
    run.run_epoch()
    with torch.no_grad():
        run.network.classifier.weight.fill_(float("inf"))
    with pytest.raises(NonFiniteLossError, match="epoch 2, step 1"):
        run.run_epoch()
    assert run.epochs_done == 1


def test_gradient_that_is_not_finite_is_found_in_its_own_step() -> None:
    run = RetrainRun(image_config(), make_images())
    run.network.classifier.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteLossError, match="epoch 1, step 1"):
        run.run_epoch()


def test_too_large_batches_and_too_small_images_are_told_before_training() -> None:
    with pytest.raises(DataError, match="batch"):
        RetrainRun(image_config(batch_size=25), make_images())
    with pytest.raises(ConfigError, match="auxiliary"):
        RetrainRun(image_config(network={"auxiliary": True}), make_images())


@pytest.mark.parametrize(
    ("num", "changes"),
    [
        (6, {"batch_size": 1}),
        (7, {"batch_size": 2, "optim": {"accumulate": 2}}),  # 4 images, then 3 as 2 and 1
    ],
)
def test_single_images_that_cannot_be_normalised_are_told_before_training(
    num: int, changes: dict[str, Any]
) -> None:
    # of 32x32 images the auxiliary head's last map is a single pixel
    config = image_config(network={"auxiliary": True}, **changes)
    with pytest.raises(ConfigError, match=r"batch_size: .*single image.*auxiliary"):
        RetrainRun(config, make_images(num, 32))
    run = RetrainRun(image_config(**changes), make_images(num, 32))
    assert run.run_epoch()["train_loss"] > 0
    # larger images leave more to normalise
    RetrainRun(config, make_images(num, 48)).run_epoch()


def test_test_set_is_read_once_after_the_last_epoch() -> None:
    opened: list[int] = []

    def open_test() -> ImageSplit:
        opened.append(1)
        return image_split(10, seed=5)

    run = RetrainRun(image_config(epochs=2, train_portion=0.5), make_images(open_test=open_test))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="after the last epoch"):
            run.test()
        run.run_epoch()
    assert not opened
    state = run.state_dict()
    scores = run.test()
    assert len(opened) == 1
    assert set(scores) == {"test_loss", "test_accuracy", "test_top5"}
    with pytest.raises(RuntimeError, match="has been read"):
        run.test()
    with pytest.raises(RuntimeError, match="finished"):
        run.run_epoch()
    restored = RetrainRun(run.config, make_images())  # its test set must stay closed
    restored.load_state_dict(run.state_dict())
    assert restored.test() == scores
    again = RetrainRun(run.config, make_images(open_test=open_test))
    again.load_state_dict(state)  # saved before the test
    assert again.test() == scores


def test_unusable_test_set_is_told_before_training() -> None:
    def unusable() -> NoReturn:
        raise DataError("there is no test set")

    data = dataclasses.replace(make_images(), test_checker=unusable)
    with pytest.raises(DataError, match="there is no test set"):
        RetrainRun(image_config(), data)
    RetrainRun(image_config(test_at_end=False), data)  # does not look


def test_training_never_opens_the_test_set() -> None:
    run = RetrainRun(image_config(train_portion=0.5), make_images())  # opening it raises
    assert len(_train(run)) == 4
    run.describe()
    with pytest.raises(AssertionError, match="was opened"):
        run.test()


def test_drop_path_of_every_epoch_shares_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters  # takes seconds

    compile_graph = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: compile_graph(f, backend="eager"))
    torch.compiler.reset()
    counters.clear()
    config = image_config(compile=True, network={"drop_path": 0.4, "layers": 1})
    assert len(_train(RetrainRun(config, make_images(12)))) == 4
    # without dropping in the first epoch, and with any probability in the others
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the C++ compiler takes minutes on a busy machine
def test_compile_agrees_with_the_plain_path() -> None:
    changes: dict[str, Any] = {"epochs": 2, "network": {"drop_path": 0.0}}
    plain = _train(RetrainRun(image_config(**changes), make_images()))
    compiled = _train(RetrainRun(image_config(**changes, compile=True), make_images()))
    for left, right in zip(plain, compiled, strict=True):
        assert right["train_loss"] == pytest.approx(left["train_loss"], rel=1e-3)
