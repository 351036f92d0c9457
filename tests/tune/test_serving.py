"""A real HTTP client against `pipelines/serve.py`, with several requests at a time."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from darts_ray.export import ModelMetadata, PictureRule, export_onnx
from darts_ray.space import zoo

pytest.importorskip("ray.serve", exc_type=ImportError)
ROOT = Path(__file__).parents[2]
PYTHONPATH = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
COLOURS = ("red", "lime", "blue")


class Brightest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 10 * x.mean((2, 3))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("serve")
    metadata = ModelMetadata(
        zoo["DARTS_V2"].to_json(), COLOURS, mean=(0.5,) * 3, std=(0.5,) * 3,
        pictures=PictureRule((8, 8), "stretch", converts_color=True),
    )  # fmt: skip
    export_onnx(Brightest(), folder / "best.onnx", example_size=(3, 8, 8), metadata=metadata)
    port = free_port()
    words = [sys.executable, str(ROOT / "pipelines" / "serve.py"), str(folder)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": PYTHONPATH}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*words, "--port", str(port)],
            stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    pytest.fail(log.read_text()[-3000:])


def picture(colour: str) -> str:
    sink = io.BytesIO()
    Image.new("RGB", (20, 10), colour).save(sink, "PNG")
    return base64.b64encode(sink.getvalue()).decode()


def post(address: str, body: bytes) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{address}/predict", body, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.slow
def test_labels_by_http_alone_and_under_load(address: str) -> None:
    bodies = [json.dumps({"image": picture(colour), "top": 2}).encode() for colour in COLOURS]

    def ask(number: int) -> tuple[str, float]:
        started = time.perf_counter()
        status, answer = post(address, bodies[number % 3])
        assert status == 200, answer
        assert len(answer["top"]) == 2
        return answer["label"], time.perf_counter() - started

    for clients in (1, 8):
        with ThreadPoolExecutor(clients) as pool:
            answers = list(pool.map(ask, range(120)))
        assert [label for label, _ in answers] == [COLOURS[n % 3] for n in range(120)]
        times = 1e3 * np.array([seconds for _, seconds in answers])
        p50, p99 = statistics.median(times), float(np.percentile(times, 99))
        print(f"{clients} clients: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        assert p99 < 30_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"{}", 422),
        (json.dumps({"image": 5}).encode(), 422),
        (json.dumps({"image": picture("red"), "tpo": 3}).encode(), 422),
        (json.dumps({"image": picture("red"), "top": 0}).encode(), 422),
        (json.dumps({"image": "not base64!"}).encode(), 400),
        (json.dumps({"image": base64.b64encode(b"no picture").decode()}).encode(), 400),
    ],
)
def test_a_malformed_request_is_the_clients_fault(address: str, body: bytes, status: int) -> None:
    code, answer = post(address, body)
    assert code == status, answer
    assert "Traceback" not in str(answer)


@pytest.mark.slow
def test_the_contract_is_served(address: str) -> None:
    with urllib.request.urlopen(f"{address}/contract", timeout=60) as answer:
        contract = json.load(answer)
    assert contract["class_names"] == list(COLOURS)
    assert contract["pictures"]["resize"] == "stretch"


@pytest.mark.slow
def test_a_wrong_file_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(b"half")
    words = [sys.executable, str(ROOT / "pipelines" / "serve.py"), str(tmp_path / "cut.onnx")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )  # fmt: skip
    assert done.returncode == 2
    assert "is no ONNX file" in done.stderr
    assert "Traceback" not in done.stderr
