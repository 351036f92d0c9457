"""A configuration that says little gets the paper's settings for its kind of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import RetrainConfig, SearchConfig, load_config
from darts_ray.space import zoo

CONFIGS = Path(__file__).parents[2] / "configs"
TEXT = {"source": "text", "path": "data/ptb"}
IMAGENET = {"source": "image_folder", "path": "data/imagenet", "image_size": 224}


def test_a_text_search_is_that_of_penn_treebank() -> None:
    study = load_config(CONFIGS / "ptb" / "search.yaml")
    short = SearchConfig.model_validate({"data": study.data, "optim": {"order": "unrolled"}})
    assert short == study.search_config({}, 0)


@pytest.mark.parametrize(
    ("folder", "cell", "changes"),
    [
        ("ptb", "RECURRENT_DARTS_V2", {}),
        ("imagenet", "DARTS_V2", {"network": {"style": "imagenet"}}),
        ("cifar10", "DARTS_V2", {}),
    ],
)
def test_a_training_is_that_of_the_paper(folder: str, cell: str, changes: dict[str, Any]) -> None:
    study = load_config(CONFIGS / folder / "retrain.yaml")
    genotype = zoo[cell].to_dict()
    short = RetrainConfig.model_validate({"data": study.data, "genotype": genotype, **changes})
    assert short == study.retrain_config(genotype, 0)


def test_what_is_given_takes_precedence() -> None:
    search = SearchConfig.model_validate(
        {"data": TEXT, "batch_size": 8, "optim": {"weight_lr": 5.0, "momentum": 0.5}}
    )
    assert (search.batch_size, search.epochs) == (8, 50)
    assert (search.optim.weight_lr, search.optim.weight_lr_min) == (5.0, 5.0)
    assert (search.optim.momentum, search.optim.grad_clip) == (0.5, 0.25)


def test_a_selection_stays_short() -> None:
    values = {"epochs": 1, "optim": {"order": "first"}}
    study = load_config(
        CONFIGS / "ptb" / "search.yaml", [f"search={values}", "select={}", "retrain={}"]
    )
    assert study.select is not None
    assert study.retrain is not None
    assert (study.select.epochs, study.retrain.epochs) == (100, 8000)
    assert study.select.optim == study.retrain.optim
