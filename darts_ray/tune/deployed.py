"""A retraining whose one pass over the test set also goes through the ONNX file of its network.

Files for users are written later, from the one network that is exported. Only the worker that
tests sees the test images, so it makes the same file for itself; `graph_digest` tells later
whether it was the same.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from darts_ray.config import ExportSection, RetrainConfig
from darts_ray.data import ImageData, TextData
from darts_ray.errors import ConfigError, DartsError
from darts_ray.runtime.workers import ALONE, Workers
from darts_ray.train import RetrainRun, load_checkpoint
from darts_ray.train.predictions import Deployed
from darts_ray.tune.trials.planned import FORM, FORM_KEYS
from darts_ray.tune.trials.values import parse_config

logger = logging.getLogger("darts_ray.tune")


def parse_retraining(values: Mapping[str, Any]) -> tuple[RetrainConfig, ExportSection | None]:
    """Validate the fields of a `RetrainConfig`, and the form of the file beside them.

    Returns:
        The retraining; and how the file is written that is tested with it, None: there is none.

    Raises:
        ConfigError: a key is unknown or a value is wrong.
    """
    training = {name: value for name, value in values.items() if name != FORM}
    config = parse_config(RetrainConfig, training)
    form = values.get(FORM)
    if form is None:
        return config, None
    if config.data.is_text or not config.test_at_end:
        raise ConfigError(f"{FORM}: is for retrainings on images that test at the end.")
    if unknown := set(form) - set(FORM_KEYS):
        raise ConfigError(
            f"{FORM}.{min(unknown)}: unknown key. A retraining knows: {', '.join(FORM_KEYS)}."
        )
    return config, parse_config(ExportSection, form)


class DeployedRun(RetrainRun):
    """A retraining that may test the ONNX file of its network together with the network.

    Args:
        config: as of `RetrainRun`.
        data: as of `RetrainRun`.
        device: as of `RetrainRun`.
        workers: as of `RetrainRun`.
        form: `opset`, `input` and `output` of the file; None: there is no file.
    """

    def __init__(
        self,
        config: RetrainConfig,
        data: ImageData | TextData,
        device: torch.device | None = None,
        workers: Workers = ALONE,
        form: ExportSection | None = None,
    ) -> None:
        super().__init__(config, data, device, workers)
        self._form = form

    def test(self, deployed: Deployed | None = None) -> dict[str, float]:
        """Test the network and its file; without a file if the network cannot be exported."""
        if self._form is None or self.test_metrics is not None or not self.finished:
            return super().test(deployed)
        with tempfile.TemporaryDirectory() as folder:
            try:
                deployed = self._file(self._form, Path(folder))
            except DartsError as error:
                # why: the scores are worth having, and the export stage will say the same
                logger.warning("The test looks at the network alone, as it has no file: %s", error)
            return super().test(deployed)

    def _file(self, form: ExportSection, folder: Path) -> Deployed:
        """Write the file as the export stage would, from the deployable network."""
        # why here: a worker that tests no file need not load what writes one
        from darts_ray.export import ModelMetadata, OnnxNetwork, export_onnx
        from darts_ray.export.onnx_file import graph_digest

        weights, onnx = folder / "network.pt", folder / "network.onnx"
        self.save(weights)
        checkpoint = load_checkpoint(weights)
        info: Any = checkpoint.info
        takes_bytes = form.input == "uint8_nhwc"
        metadata = ModelMetadata(
            self.config.parsed_genotype().to_json(),
            info.class_names,
            info.mean,
            info.std,
            layout="NHWC" if takes_bytes else "NCHW",
            dtype="uint8" if takes_bytes else "float32",
            output=form.output,
        )
        size = (info.channels, *info.image_size)
        export_onnx(
            checkpoint.network, onnx, example_size=size, metadata=metadata, opset=form.opset
        )
        network = OnnxNetwork(onnx, num_threads=torch.get_num_threads())

        def classes(images: Tensor) -> Tensor:
            return torch.from_numpy(network.predict(images).argmax(1))

        return Deployed(classes, graph_digest(onnx))
