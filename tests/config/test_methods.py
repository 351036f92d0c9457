"""Values of search methods: the constants of their papers, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darts_ray.config import SearchConfig, StudyConfig, load_config
from darts_ray.config.methods import METHOD_CONFIGS, parse_method
from darts_ray.config.reading.axes import FOLLOWERS, one_by_one
from darts_ray.config.robustness import DropPathConfig, EarlyStopConfig
from darts_ray.errors import ConfigError

CONSTANTS: dict[str, dict[str, Any]] = {
    # read in the authors' code; of a schedule the two ends
    "darts": {},
    # beta = (E - t) / E
    "darts_minus": {"beta": 1.0},
    # k = 4; alphas from epoch 15 of 50
    "pc_darts": {"channels": 4, "warmup": 15 / 50},
    # eps = .03 + (.3 - .03) t / E; 7 steps of 2 eps / 7
    "sdarts": {"perturbation": "random", "epsilon_min": 0.03, "epsilon_max": 0.3, "steps": 7},
    # tau linear from 10 to .1; that operations which are not drawn do not run is its speed
    "gdas": {"tau_max": 10.0, "tau_min": 0.1, "unselected": "zero"},
    # plain: all channels, no warm-up, Adam's decay; with "kl" a weight of 1e-3
    "drnas": {"regulariser": "l2", "kl_weight": 1e-3, "channels": 1, "warmup": 0.0},
    # lambda = 50 t / 100
    "beta_darts": {"weight": 50.0},
    # 10 * L01; kept from .85 on
    "fair_darts": {"weight": 10.0, "threshold": 0.85},
    # lambda linear from 1 to .03
    "snas": {"tau_max": 1.0, "tau_min": 0.03},
    # lambda linear from 0 to .125; eps0 = 1e-4
    "lambda_darts": {"weight": 0.125, "epsilon": 1e-4},
    # mean cosine of 20 steps below .4
    "oles": {"threshold": 0.4, "interval": 20},
    "random": {},
    # 1,000 cells on 10 batches, the best 10 on all, a round per 10,000 steps
    "random_ws": {"samples": 1000, "batches": 10, "finalists": 10, "steps_per_round": 10_000},
    # 5 epochs between decisions, rate .025 / 10
    "darts_pt": {
        "fixed_alpha": False,
        "criterion": "perturbation",
        "interval": 5,
        "weight_lr": 0.025 / 10,
    },
}


@pytest.mark.parametrize("name", METHOD_CONFIGS)
def test_defaults_are_the_papers_constants(name: str) -> None:
    values = parse_method(name).model_dump(exclude={"name", "imports", "base"})
    assert values == pytest.approx(CONSTANTS[name]) if values else not CONSTANTS[name]


@pytest.mark.parametrize(
    ("space", "source", "method", "differs"),
    [
        # lambda_t from 0 to .25 in the script for S4 on SVHN
        ("s4", "svhn", "lambda_darts", {"weight": 0.25}),
        ("s4", "cifar10", "lambda_darts", {}),
        ("s3", "svhn", "lambda_darts", {}),
        # NATS-Bench: the best of 100 cells by one batch
        (
            "nasbench201",
            "svhn",
            "random_ws",
            {"samples": 100, "batches": 1, "finalists": 1, "steps_per_round": None},
        ),
        ("darts", "svhn", "random_ws", {}),
        ("nasbench201", "cifar10", "beta_darts", {}),
    ],
)
def test_constants_follow_the_papers_spaces(
    space: str, source: str, method: str, differs: dict[str, Any]
) -> None:
    data = {"source": source, "path": "data"}
    network = {"layers": 6}
    search = SearchConfig(space=space, data=data, network=network, method=method)
    expected = {**CONSTANTS[method], **differs}
    assert search.method.model_dump(include=set(expected)) == pytest.approx(expected)
    # a base is completed as well, and what is given stays
    if method == "lambda_darts":
        on_top = SearchConfig(space=space, data=data, method={"name": "darts_pt", "base": method})
        assert on_top.method.model_dump()["base"]["weight"] == expected["weight"]
    for name, value in CONSTANTS[method].items():
        given = {"name": method, name: value}
        kept = SearchConfig(space=space, data=data, network=network, method=given)
        assert getattr(kept.method, name) == value
    # and is what a trial gets, and goes on with
    again = SearchConfig.model_validate(search.model_dump(mode="json"))
    assert again.method.model_dump() == search.method.model_dump()


def test_values_that_follow_the_space_are_listed_as_such() -> None:
    for name, model in METHOD_CONFIGS.items():
        for space in ("darts", "s4", "nasbench201"):
            data = {"source": "svhn", "path": "data"}
            search = SearchConfig(space=space, data=data, network={"layers": 6})
            for value in model().constants(search):
                assert FOLLOWERS[f"method.{value}"] == "space", (name, value)


def test_study_yaml_has_the_constants_in_use() -> None:
    def method(**search: Any) -> Any:
        values = {"data": {"source": "svhn", "path": "data"}, "name": "t"}
        study = StudyConfig.model_validate({**values, "search": search}).resolved()
        assert study.search is not None
        # what is written describes the same searches
        again = StudyConfig.model_validate({**values, "search": study.search})
        for setting in one_by_one(again.search_axes()):
            found, before = (s.search_config(setting, 0) for s in (again, study))
            given = StudyConfig.model_validate({**values, "search": search})
            assert found == before == given.search_config(setting, 0)
        return study.search["method"]

    assert method(space="s4", method="lambda_darts")["weight"] == 0.25
    assert method(space="s3", method="lambda_darts")["weight"] == 0.125
    # of several spaces, each has its own
    spaces = {"grid": ["s4", "s3"]}
    assert "weight" not in method(space=spaces, method="lambda_darts")
    on_top = {"name": "darts_pt", "base": "lambda_darts"}
    assert "weight" not in method(space=spaces, method=on_top)["base"]
    assert method(space=spaces, method="lambda_darts")["epsilon"] == 1e-4


def test_what_methods_change_is_changed_of_the_papers_search() -> None:
    """The settings of DARTS that METHODS take as their base, for images."""
    search = SearchConfig()
    assert (search.epochs, search.batch_size, search.train_portion) == (50, 64, 0.5)
    assert search.network.model_dump() == {
        "kind": "conv", "channels": 16, "layers": 8, "stem_multiplier": 3,
    }  # fmt: skip
    assert search.optim.model_dump(include={"weight_lr", "weight_lr_min", "grad_clip"}) == {
        "weight_lr": 0.025, "weight_lr_min": 0.001, "grad_clip": 5.0,
    }  # fmt: skip
    assert (search.optim.momentum, search.optim.weight_decay) == (0.9, 3e-4)
    assert (search.optim.alpha_lr, search.optim.alpha_weight_decay) == (3e-4, 1e-3)
    assert search.optim.alpha_betas == (0.5, 0.999)
    rule = EarlyStopConfig().model_dump(exclude={"rule", "action"})
    assert rule == {
        "window": 5, "delta": 4, "factor": 1.3, "first": 10, "every": 2,
        "decay_factor": 10.0, "decay_max": 0.03,
    }  # fmt: skip
    assert DropPathConfig().cutout == 16


@pytest.mark.parametrize(
    ("space", "epochs", "total"),
    [
        # 14 operation rounds, 3 topology rounds, 5 epochs between and a last one
        ("darts", 50, 50 + 81),
        ("s2", 50, 50 + 81),
        # 25 tuning epochs, projections at 0, 5, 10, 15, 20 and 24
        ("nasbench201", 100, 100 + 25),
    ],
)
def test_darts_pt_tunes_as_long_as_in_its_paper(space: str, epochs: int, total: int) -> None:
    assert SearchConfig(space=space, epochs=epochs, method="darts_pt").total_epochs == total


STUDY = "name: t\ndata: {source: digits}\nsearch: {network: {channels: 4, layers: 3}}\n"


def refused(folder: Path, *overrides: str) -> str:
    file = folder / "study.yaml"
    file.write_text(STUDY)
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    return message


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ["search.method={name: pc_darts, channels: 3}"],
            ["method.channels: 3 does not divide network.channels (4)", "change one of the two"],
        ),
        (
            ["search.method={name: drnas, channels: 8}"],
            ["method.channels: 8 does not divide network.channels (4)"],
        ),
        (["search.method=lambda_darts"], ["3 layers hold fewer than two", "network.layers"]),
        (["search.method=pcdarts"], ["no method 'pcdarts'", "Did you mean 'pc_darts'?"]),
        (["search.method={name: gdas, tau: 3}"], ["tau: unknown key"]),
        (["search.method={name: darts_pt, base: random}"], ["method.base: 'random' derives"]),
        (["retrain={genotype: '|nor_conv_3x3~0|+|skip_connect~'}"], ["retrain.genotype"]),
    ],
)
def test_bad_methods_and_spaces_are_one_message_before_anything_starts(
    overrides: list[str], parts: list[str], tmp_path: Path
) -> None:
    message = refused(tmp_path, *overrides)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "name", [name for name, model in METHOD_CONFIGS.items() if model.conv_only]
)
def test_a_method_for_conv_cells_refuses_text(name: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"name: t\ndata: {{source: english}}\nsearch: {{method: {name}}}\n")
    with pytest.raises(ConfigError, match=f"{name!r} is for conv searches, because"):
        load_config(file)


def test_every_unsuitable_method_of_an_axis_is_named(tmp_path: Path) -> None:
    message = refused(
        tmp_path,
        "search.method={grid: [darts, {name: pc_darts, channels: 3}, lambda_darts, gdas]}",
        "search.compile=true",
    )
    for part in (
        "3 does not divide network.channels",
        "'lambda_darts' compares",
        "compile: 'gdas'",
    ):
        assert part in message
