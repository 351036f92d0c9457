"""A configuration that says little gets the paper's settings for its kind of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import DataConfig, RetrainConfig, SearchConfig, StudyConfig, load_config
from darts_ray.config.base import Model
from darts_ray.config.data import AugmentConfig
from darts_ray.config.export import ExportSection
from darts_ray.config.methods import METHOD_CONFIGS
from darts_ray.config.retrain import (
    ConvNetworkConfig,
    RecurrentNetworkConfig,
    RetrainOptimConfig,
)
from darts_ray.config.robustness import DropPathConfig, EarlyStopConfig
from darts_ray.config.search import (
    ConvSupernetConfig,
    RecurrentDropoutConfig,
    RecurrentSupernetConfig,
    SearchOptimConfig,
)
from darts_ray.config.sections import ResourcesSection, TrackingSection, TuneSection
from darts_ray.config.space import SpaceConfig
from darts_ray.config.study import RetrainSection, SelectSection
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


def test_what_a_section_leaves_out_is_the_recipe_s() -> None:
    """Defaults below a section that is given in part are the recipe's as well."""
    images = RetrainConfig.model_validate({"augment": {"crop_padding": 2}})
    assert (images.augment.crop_padding, images.augment.cutout) == (2, 16)
    stem = RetrainConfig.model_validate({**STEM, "augment": {"crop_padding": 2}})
    assert (stem.augment.random_resized_crop, stem.augment.cutout) == (True, 0)
    network = {"dropout": {"hidden": 0.1}}
    text = RetrainConfig.model_validate({**RECURRENT, "network": network})
    assert isinstance(text.network, RecurrentNetworkConfig)
    assert (text.network.dropout.hidden, text.network.dropout.word) == (0.1, 0.1)
    study = load_config(
        CONFIGS / "quickstart.yaml", ["select={'augment': {}}", "retrain={'augment': {}}"]
    )
    assert study.select is not None
    assert study.retrain is not None
    assert (study.select.augment.cutout, study.retrain.augment.cutout) == (16, 16)


def test_a_selection_stays_short() -> None:
    values = {"epochs": 1, "optim": {"order": "first"}}
    study = load_config(
        CONFIGS / "ptb" / "search.yaml", [f"search={values}", "select={}", "retrain={}"]
    )
    assert study.select is not None
    assert study.retrain is not None
    assert (study.select.epochs, study.retrain.epochs) == (100, 8000)
    assert study.select.optim == study.retrain.optim


RECURRENT = {"data": TEXT, "genotype": "RECURRENT_DARTS_V2"}
STEM = {"network": {"kind": "conv", "style": "imagenet"}}
SECTIONS: list[tuple[type[Model], dict[str, Any], str, type[Model], dict[str, Any]]] = [
    (RetrainConfig, {}, "network", ConvNetworkConfig, {"kind": "conv"}),
    (RetrainConfig, {}, "network", ConvNetworkConfig, {"kind": "conv", "style": "imagenet"}),
    (
        *(RetrainConfig, {}, "network", ConvNetworkConfig),
        {"kind": "conv", "style": "imagenet", "layers": 8},
    ),
    (RetrainConfig, RECURRENT, "network", RecurrentNetworkConfig, {"kind": "recurrent"}),
    (
        *(RetrainConfig, RECURRENT, "network", RecurrentNetworkConfig),
        {"kind": "recurrent", "dropout": {"hidden": 0.1}},
    ),
    (RetrainConfig, {}, "optim", RetrainOptimConfig, {"momentum": 0.5}),
    (RetrainConfig, STEM, "optim", RetrainOptimConfig, {"momentum": 0.5}),
    (RetrainConfig, RECURRENT, "optim", RetrainOptimConfig, {"grad_clip": 1.0}),
    (RetrainConfig, {}, "augment", AugmentConfig, {"crop_padding": 1}),
    (RetrainConfig, STEM, "augment", AugmentConfig, {"cutout": 4}),
    (RetrainConfig, {}, "data", DataConfig, {"source": "digits"}),
    (RetrainConfig, RECURRENT, "data", DataConfig, TEXT),
    (SearchConfig, {}, "network", ConvSupernetConfig, {"kind": "conv", "channels": 8}),
    (SearchConfig, {"data": TEXT}, "network", RecurrentSupernetConfig, {"kind": "recurrent"}),
    (
        *(SearchConfig, {"data": TEXT}, "network", RecurrentSupernetConfig),
        {"kind": "recurrent", "hidden_dim": 8, "dropout": {"input": 0.5}},
    ),
    (SearchConfig, {}, "optim", SearchOptimConfig, {"weight_lr": 0.0005}),
    (SearchConfig, {"data": TEXT}, "optim", SearchOptimConfig, {"weight_lr": 5.0}),
    (SearchConfig, {"data": TEXT}, "optim", SearchOptimConfig, {"order": "unrolled"}),
    (
        *(SearchConfig, {"data": TEXT}, "optim", SearchOptimConfig),
        {"weight_lr": 5.0, "weight_lr_min": 0.001},
    ),
    (SearchConfig, {"data": TEXT}, "data", DataConfig, TEXT),
    (SearchConfig, {}, "augment", AugmentConfig, {"cutout": 4}),
    (SearchConfig, {}, "drop_path", DropPathConfig, {"probability": 0.2}),
    (SearchConfig, {}, "early_stop", EarlyStopConfig, {"rule": "eigenvalue", "window": 3}),
    (
        *(SearchConfig, {}, "space", SpaceConfig),
        {"name": "own", "primitives": ("none", "skip_connect"), "nodes": 3},
    ),
    *(
        (SearchConfig, {}, "method", model, {"name": name})
        for name, model in METHOD_CONFIGS.items()
    ),
]


@pytest.mark.parametrize(("whole", "others", "section", "part", "values"), SECTIONS)
def test_a_section_means_the_same_as_model_and_as_mapping(
    whole: type[Model],
    others: dict[str, Any],
    section: str,
    part: type[Model],
    values: dict[str, Any],
) -> None:
    model = part(**as_models(values))
    assert whole(**{**others, section: model}) == whole(**{**others, section: values})


def as_models(values: dict[str, Any]) -> dict[str, Any]:
    if "dropout" not in values:
        return values
    return {**values, "dropout": RecurrentDropoutConfig(**values["dropout"])}


def test_every_method_has_a_model_that_means_what_its_name_means() -> None:
    for name, model in METHOD_CONFIGS.items():
        given = SearchConfig.model_validate({"method": model(name=name)})
        assert given == SearchConfig.model_validate({"method": name})


@pytest.mark.parametrize(
    ("section", "part", "values"),
    [
        ("select", SelectSection, {"network": ConvNetworkConfig(style="imagenet")}),
        ("select", SelectSection, {"seeds": (1, 2)}),
        ("retrain", RetrainSection, {"network": ConvNetworkConfig(style="imagenet")}),
        ("retrain", RetrainSection, {"optim": RetrainOptimConfig(momentum=0.5)}),
        ("export", ExportSection, {"opset": 18}),
        ("tracking", TrackingSection, {"enabled": False}),
        ("resources", ResourcesSection, {"cpus_per_trial": 2}),
        ("tune", TuneSection, {"max_failures": 1}),
    ],
)
@pytest.mark.parametrize("data", [IMAGENET, TEXT])
def test_a_section_of_a_study_means_the_same_as_model_and_as_mapping(
    section: str, part: type[Model], values: dict[str, Any], data: dict[str, Any]
) -> None:
    if data == TEXT and "network" in values:
        values = {"network": RecurrentNetworkConfig(hidden_dim=8)}
    study: dict[str, Any] = {"name": "x", "data": data, "search": {}, "retrain": {}}
    model = StudyConfig(**{**study, section: part(**values)})
    assert model == StudyConfig(**{**study, section: values})
    plain = {name: as_mapping(value) for name, value in values.items()}
    assert model == StudyConfig(**{**study, section: plain})


def as_mapping(value: Any) -> Any:
    return value.model_dump(exclude_unset=True) | {"kind": value.kind} if _tagged(value) else value


def _tagged(value: Any) -> bool:
    return isinstance(value, ConvNetworkConfig | RecurrentNetworkConfig)
