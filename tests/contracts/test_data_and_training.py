"""The package's own readers of images and tasks of a retraining."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from darts_ray.config import DataConfig
from darts_ray.data.sources import ImageSource, image_source
from darts_ray.train.build import build_network, make_task
from darts_ray.train.tasks.task import Task
from tests.contracts.source import SourceContract
from tests.contracts.task import TaskContract
from tests.data.files import pixels, png, write_parquet
from tests.train.conftest import image_config, make_images, make_text, text_config

CPU = torch.device("cpu")


class TestSources(SourceContract):
    @pytest.fixture(params=["digits", "parquet"])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> ImageSource:
        if request.param == "digits":
            return image_source(DataConfig(source="digits"))
        for seed, part in enumerate(("train", "test")):
            encoded = [png(image) for image in pixels(6, seed=seed)]
            file = tmp_path / f"{part}.parquet"
            write_parquet(file, encoded, [0, 1, 2] * 2, names=["cat", "dog", "owl"])
        return image_source(DataConfig(source="parquet", path=str(tmp_path)))


class TestTasks(TaskContract):
    @pytest.fixture(params=["image", "auxiliary", "held out", "text"])
    def make(self, request: pytest.FixtureRequest) -> Callable[[], Task]:
        config, data = {
            "image": (image_config(), make_images()),
            "auxiliary": (
                image_config(network={"auxiliary": True}),
                make_images(size=32),
            ),
            "held out": (image_config(train_portion=0.5), make_images()),
            "text": (text_config(), make_text()),
        }[request.param]

        def build() -> Task:
            torch.manual_seed(0)
            return make_task(config, data, build_network(config, data.info), CPU)

        return build
