"""An exported image network as a Ray Serve application; needs the extra `serve`.

`POST /predict` takes a picture in base64 and answers with labels; requests that arrive together
run as one batch. `GET /health` answers while a replica lives, `GET /contract` tells what the
network expects. Ray publishes the latencies, request counts and errors of every route with its
other Prometheus metrics, and `darts_serve_batch_size` beside them.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.util.metrics import Histogram

from darts_ray.errors import PredictionError
from darts_ray.export import OnnxNetwork
from darts_ray.export.consumer.pictures import picture_pixels
from darts_ray.export.consumer.served import decode_base64

MAX_BATCH = 32
BATCH_WAIT_S = 0.003
MAX_TEXT = 16 * 2**20
"""Characters of a picture in base64 that are accepted."""

http = FastAPI(title="darts_ray")


class PictureRequest(BaseModel):
    """A picture file (PNG, JPEG, ...) in base64."""

    model_config = ConfigDict(extra="forbid")

    image: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    top: Annotated[int, Field(ge=1, le=1000, description="Classes to give.")] = 5


class Label(BaseModel):
    """A class and how likely it is (0..1)."""

    label: str
    probability: float


class PictureAnswer(BaseModel):
    """The likeliest class, and the others."""

    label: str
    probability: float
    top: list[Label]


@serve.deployment(max_ongoing_requests=4 * MAX_BATCH)
@serve.ingress(http)
class Classifier:
    """One replica: an onnxruntime session.

    Args:
        model: path of the ONNX file on every node that may run a replica.
        num_threads: of onnxruntime.

    Raises:
        PredictionError: the file cannot be used.
    """

    def __init__(self, model: str, num_threads: int) -> None:
        self._network = OnnxNetwork(model, num_threads=num_threads)
        self._sizes = Histogram(
            "darts_serve_batch_size",
            description="Pictures that ran together.",
            boundaries=[1, 2, 4, 8, 16, 32],
        )

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
    async def _run(self, pictures: list[Any]) -> list[Any]:
        self._sizes.observe(len(pictures))
        return list(self._network.probabilities(np.stack(pictures)))

    @http.post("/predict")
    async def predict(self, request: PictureRequest) -> PictureAnswer:
        """Classify one picture."""
        network = self._network
        channels, height, width = network.image_size
        try:
            content = decode_base64(request.image)
            pixels = picture_pixels(content, network.rule, channels, (height, width))
        except PredictionError as error:
            raise HTTPException(400, str(error)) from error
        shares = await self._run(pixels)
        names = network.metadata.class_names
        best = [
            Label(label=names[index], probability=float(shares[index]))
            for index in np.argsort(-shares)[: request.top]
        ]
        return PictureAnswer(label=best[0].label, probability=best[0].probability, top=best)

    @http.get("/health")
    async def health(self) -> dict[str, str]:
        """Say that the network is loaded."""
        return {"status": "ok"}

    @http.get("/contract")
    async def contract(self) -> dict[str, Any]:
        """Return what the file says about itself."""
        return self._network.metadata.to_values()


def application(
    model: str | Path, *, replicas: int = 1, num_threads: int = 1
) -> serve.Application:
    """Return the application for `ray.serve.run`.

    Args:
        model: the ONNX file; a study folder stands for its best.onnx.
        replicas: of the network.
        num_threads: of each replica, which asks Ray for as many CPUs.

    Raises:
        PredictionError: the file cannot be used, here on the driver.
    """
    path = Path(model).expanduser().resolve()
    path = path / "best.onnx" if path.is_dir() else path
    OnnxNetwork(path, num_threads=1)  # a wrong file is one message here, not a replica's traceback
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    deployment = Classifier.options(  # type: ignore[attr-defined]
        num_replicas=replicas, ray_actor_options={"num_cpus": num_threads}
    )
    bound: serve.Application = deployment.bind(str(path), num_threads)
    return bound
