from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from darts_ray.errors import DataError, NonFiniteLossError
from darts_ray.runtime.losses import LossTrace
from darts_ray.train import build_network, evaluate_network
from darts_ray.train.evaluation import EvaluationSettings, score_images, score_text
from darts_ray.train.predictions import Predictions
from tests.train.conftest import image_config, image_split, make_images, make_text, text_config

CPU = torch.device("cpu")
SETTINGS = EvaluationSettings(CPU, 2, 7, "float32", False)


class _Lookup(nn.Module):
    """Its `images` are logits already."""

    def forward(self, images: Tensor) -> Tensor:
        return images


def test_top_1_and_top_5_by_hand() -> None:
    # six classes; the target's rank is 1, 2, 5 and 6
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1]]).repeat(4, 1)
    targets = torch.tensor([0, 1, 4, 5])
    batches = [(logits[:3], targets[:3]), (logits[3:], targets[3:])]
    scores = score_images(_Lookup(), batches, SETTINGS, "test", LossTrace("loss", 0))
    assert scores["test_accuracy"] == 0.25
    assert scores["test_top5"] == 0.75
    # mean over samples, not over batches: log-sum-exp minus the mean target logit 14 / 4
    normaliser = math.log(sum(math.exp(logit) for logit in range(1, 7)))
    assert scores["test_loss"] == pytest.approx(normaliser - 3.5, rel=1e-6)


def test_predictions_are_kept_in_the_pass_that_scores() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.5], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    targets = torch.tensor([0, 2, 2])
    batches = [(logits[:2], targets[:2]), (logits[2:], targets[2:])]
    seen = Predictions()
    score_images(_Lookup(), batches, SETTINGS, "t", LossTrace("loss", 0), predictions=seen)
    kept = {name: value.tolist() for name, value in seen.collected().items()}
    assert kept["label"] == [0, 2, 2]
    assert kept["predicted"] == [0, 1, 2]
    assert kept["margin"] == [0.5, 1.0, 3.0]
    # 1 / (1 + e^-2 + e^-0.5), 1 / (1 + 2 / e), 1 / (1 + 2 e^-3)
    assert kept["confidence"] == pytest.approx([0.57409699, 0.57611688, 0.90944300], abs=1e-6)


def test_non_finite_evaluation_is_an_error() -> None:
    logits = torch.full((2, 3), math.nan)
    batches = [(logits, torch.zeros(2, dtype=torch.int64))]
    with pytest.raises(NonFiniteLossError, match="validation loss"):
        score_images(_Lookup(), batches, SETTINGS, "v", LossTrace("validation loss", 1))


def test_perplexity_counts_every_predicted_token_once() -> None:
    network = build_network(text_config(), make_text().info)
    tokens = torch.arange(31) % 13
    scores = score_text(network, tokens, SETTINGS, "test", LossTrace("loss", 0))
    # two columns of 15 tokens hold 14 predictions each; windows of 7 carry the hidden state
    columns = tokens[:30].view(2, 15).t()
    network.eval()
    log_probs, _ = network(columns[:-1], network.init_hidden(2))
    picked = log_probs.gather(2, columns[1:, :, None])
    assert picked.numel() == 28
    assert scores["test_loss"] == pytest.approx(-picked.double().mean().item(), rel=1e-5)
    assert scores["test_perplexity"] == pytest.approx(math.exp(scores["test_loss"]), rel=1e-12)


def test_settings_come_from_the_configuration() -> None:
    config = text_config(eval_batch_size=3, precision="bfloat16")
    settings = EvaluationSettings.of_validation(config, CPU)
    assert settings == EvaluationSettings(CPU, 3, 10, "bfloat16", False)
    assert EvaluationSettings.of_validation(image_config(), CPU).channels_last


def test_test_batch_size_falls_back_to_the_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def spy(network: nn.Module, tokens: Tensor, settings: EvaluationSettings, *_: object) -> dict:  # type: ignore[type-arg]
        sizes.append(settings.batch_size)
        return {}

    monkeypatch.setattr("darts_ray.train.evaluation.score_text", spy)
    data = make_text(open_test=lambda: torch.zeros(9, dtype=torch.int64))
    for changes in ({}, {"eval_batch_size": 3}, {"eval_batch_size": 3, "test_batch_size": 1}):
        evaluate_network(nn.Identity(), text_config(**changes), data, device=CPU)
    evaluate_network(nn.Identity(), text_config(), data, device=CPU, batch_size=7)
    assert sizes == [4, 3, 1, 7]


def test_empty_test_set_is_an_error() -> None:
    data = make_images(open_test=lambda: image_split(0))
    with pytest.raises(DataError, match="empty"):
        evaluate_network(_Lookup(), image_config(), data, device=CPU)
