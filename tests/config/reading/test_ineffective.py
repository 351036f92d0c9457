"""Options that do nothing in a combination are named, and only those."""

from __future__ import annotations

from typing import Any

import pytest

from darts_ray.config import RetrainConfig, SearchConfig, ineffective_options

TEXT = {"source": "english"}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, []),
        ({"data": TEXT}, []),
        ({"optim": {"xi": 0.1, "hvp": "exact"}}, ["optim.xi", "optim.hvp"]),
        ({"optim": {"order": "unrolled", "xi": 0.1, "hvp": "exact"}}, []),
        ({"optim": {"order": "unrolled", "hvp": "exact", "hvp_epsilon": 0.1}}, ["optim.hvp_eps"]),
        ({"optim": {"xi": "weight_lr"}}, []),  # the default, given
        ({"data": TEXT, "train_portion": 0.4}, ["train_portion"]),
        ({"data": TEXT, "augment": {"cutout": 4}}, ["augment"]),
        ({"drop_path": {"cutout": 4}}, ["drop_path.cutout"]),
        ({"early_stop": {"decay_max": 0.1}}, ["early_stop.decay_max"]),
        ({"early_stop": {"decay_max": 0.1, "action": "adapt"}}, []),
        ({"method": {"name": "sdarts", "steps": 3}}, ["method.steps"]),
        ({"method": "random", "optim": {"order": "unrolled"}}, ["optim.order"]),
        ({"method": "random_ws", "hessian_every": 5}, ["hessian_every"]),
    ],
)
def test_of_a_search(values: dict[str, Any], names: list[str]) -> None:
    lines = ineffective_options(SearchConfig.model_validate(values))
    assert len(lines) == len(names)
    for line, name in zip(lines, names, strict=True):
        assert line.startswith(name)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, []),
        ({"data": TEXT, "genotype": "RECURRENT_DARTS_V2"}, []),
        ({"optim": {"schedule": "exponential", "lr_min": 0.001}}, ["optim.lr_min"]),
        ({"optim": {"lr_min": 0.001}}, []),
    ],
)
def test_of_a_training(values: dict[str, Any], names: list[str]) -> None:
    lines = ineffective_options(RetrainConfig.model_validate(values))
    assert [line.split(":")[0] for line in lines] == names
