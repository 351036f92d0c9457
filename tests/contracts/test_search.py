"""The package's own relaxations, derivations and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch

from darts_ray.config.methods import METHOD_CONFIGS
from darts_ray.search import SearchRun, methods
from darts_ray.search.batches import SearchBatches, open_batches
from darts_ray.search.parts import Relaxation
from darts_ray.space import SearchSpace, resolve_space
from tests.contracts.batches import BatchesContract
from tests.contracts.derivation import DerivationContract
from tests.contracts.relaxation import RelaxationContract
from tests.search.small import image_config, image_data, text_config, text_data

CPU = torch.device("cpu")
UNTRAINED = {name for name in METHOD_CONFIGS if name.startswith("random")}


@pytest.fixture(params=["darts", "s1", "nasbench201"])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return resolve_space(request.param)


class TestRelaxations(RelaxationContract):
    @pytest.fixture(params=sorted(set(METHOD_CONFIGS) - UNTRAINED))
    def relaxation(self, request: pytest.FixtureRequest) -> Relaxation:
        return methods.make(request.param).relaxation


class TestSampler(RelaxationContract):
    learns: ClassVar[bool] = False

    @pytest.fixture
    def relaxation(self) -> Relaxation:
        return methods.make("random_ws").relaxation


DERIVING: dict[str, dict[str, Any]] = {
    "darts": {},
    "darts_pt": {"interval": 2},
    "fair_darts": {},
    "random_ws": {"samples": 4, "batches": 1, "finalists": 2},
}


class TestDerivations(DerivationContract):
    @pytest.fixture(params=DERIVING)
    def make(self, request: pytest.FixtureRequest) -> Callable[[], SearchRun]:
        method = {"name": request.param, **DERIVING[request.param]}
        config = image_config(method=method, epochs=2, max_steps=2)
        return lambda: SearchRun(config, image_data(), CPU)


class TestBatches(BatchesContract):
    @pytest.fixture(params=["image", "text"])
    def make(self, request: pytest.FixtureRequest) -> Callable[[], SearchBatches]:
        if request.param == "image":
            return lambda: open_batches(image_config(), image_data(), CPU)
        return lambda: open_batches(text_config(), text_data(), CPU)
