"""Batches of a search and the evaluation of its supernet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from darts_ray.data import split_indices
from darts_ray.search import build_supernet
from darts_ray.search.batches import ImageBatches, TextBatches, evaluation_batch_size, open_batches
from tests.search.small import image_config, image_data, text_config, text_data

CPU = torch.device("cpu")


@given(num=st.integers(2, 300), batch_size=st.integers(1, 64))
def test_no_evaluation_batch_has_a_single_sample(num: int, batch_size: int) -> None:
    size = evaluation_batch_size(num, batch_size)
    assert size > 1
    assert num % size != 1
    # A few more than asked for where a single one would remain: the most below 300 is for
    # num = 241 in pairs, as all of 2 to 6 divide 240.
    assert size <= max(batch_size, 2) + 5


@pytest.mark.parametrize("num", [41, 38])
def test_every_image_of_the_weights_part_once_per_epoch(num: int) -> None:
    # parts of 20 and 21, or 19 and 19 (a remainder of 1 with batches of 6, which is left out)
    source = open_batches(image_config(augment={"crop_padding": 0}), image_data(num), CPU)
    assert isinstance(source, ImageBatches)
    batches = list(source.epoch())
    assert len(batches) == len(source) == (4 if num == 41 else 3)
    assert sum(step.samples for step in batches) == (20 if num == 41 else 18)
    assert all(len(step.valid[1]) == 6 for step in batches)
    assert min(step.samples for step in batches) > 1


def test_compiled_cells_see_whole_batches_only() -> None:
    source = open_batches(image_config(compile=True), image_data(), CPU)
    assert [step.samples for step in source.epoch()] == [6, 6, 6]


def test_streams_differ_and_cycle() -> None:
    source = open_batches(image_config(), image_data(), CPU)
    first, second = list(source.epoch()), list(source.epoch())
    assert not torch.equal(first[0].train[0], second[0].train[0])
    valid = [step.valid[0] for step in first + second]
    assert all(not torch.equal(valid[0], other) for other in valid[1:])


def test_weights_and_alphas_never_share_an_image() -> None:
    data = image_data()
    # each image carries its number in every pixel; no augmentation moves it
    data.train.images[:] = torch.arange(41).view(-1, 1, 1, 1).to(torch.uint8)  # type: ignore[attr-defined]
    config = image_config(augment={"crop_padding": 0, "horizontal_flip": False})
    source = open_batches(config, data, CPU)
    seen: dict[str, set[int]] = {"train": set(), "valid": set()}
    for _ in range(3):
        for step in source.epoch():
            for name, images in (("train", step.train[0]), ("valid", step.valid[0])):
                pixels = (images[:, 0, 0, 0] * 0.2 + 0.35) * 255
                seen[name] |= set(pixels.round().int().tolist())
    assert len(seen["train"]) == 20
    assert not seen["train"] & seen["valid"]


def test_image_evaluation_equals_a_plain_loop() -> None:
    config, data = image_config(), image_data()
    torch.manual_seed(0)
    supernet = build_supernet(config, data.info).eval()
    source = open_batches(config, data, CPU)
    assert isinstance(source, ImageBatches)
    metrics = source.evaluate(supernet)
    _, indices = split_indices(len(data.train), config.train_portion, config.data.split_seed)
    images = (data.train.images[indices].float() / 255 - 0.35) / 0.2  # type: ignore[attr-defined]
    targets = data.train.labels[indices]
    size = evaluation_batch_size(21, 6)
    assert size == 6  # 6, 6, 6, 3
    with torch.no_grad():
        logits = torch.cat([supernet(part) for part in images.split(size)])
    expected = F.cross_entropy(logits, targets).item()
    assert metrics["validation_loss"] == pytest.approx(expected, rel=1e-5)
    hits = (logits.argmax(1) == targets).float().mean().item()
    assert metrics["validation_accuracy"] == pytest.approx(hits)


def test_text_evaluation_divides_by_the_scored_tokens() -> None:
    config, data = text_config(), text_data()
    torch.manual_seed(0)
    supernet: Any = build_supernet(config, data.info).eval()
    source = open_batches(config, data, CPU)
    assert isinstance(source, TextBatches)
    # 70 tokens in 5 columns of 14: 13 predictions each, in windows of 10 and 3
    matrix = data.valid.view(5, 14).t()
    hidden, total, scored = supernet.init_hidden(5), 0.0, 0
    with torch.no_grad():
        for row in (0, 10):
            log_probs, hidden = supernet(matrix[row : min(row + 10, 13)], hidden)
            targets = matrix[row + 1 : min(row + 11, 14)]
            total += F.nll_loss(log_probs.flatten(0, 1), targets.flatten(), reduction="sum").item()
            scored += targets.numel()
    assert scored == 65
    assert source.evaluate(supernet)["validation_loss"] == pytest.approx(total / 65, rel=1e-5)
