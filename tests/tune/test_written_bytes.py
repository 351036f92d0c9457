"""What a stage writes to an object store grows with its trials, and no faster; slow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from darts_ray.tune import run_trials
from tests.tune.stub import StubTrainable, stub_study, stub_trials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("local_ray"),
    # why: boto3 and moto's server leave sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class CountingStore:
    """A local S3 server that counts what it is sent.

    Attributes:
        written: bytes in the bodies of all PUT and POST requests.
        requests: number of those requests.
    """

    def __init__(self) -> None:
        self.written = self.requests = 0
        self._lock = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._count, threaded=True)
        self.address = f"127.0.0.1:{self._server.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _count(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] in ("PUT", "POST"):
            with self._lock:
                self.written += int(environ.get("CONTENT_LENGTH") or 0)
                self.requests += 1
        return self._moto(environ, start_response)


@pytest.fixture
def store() -> Iterator[CountingStore]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line per request
    server = CountingStore()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{server.address}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="studies")
    client.close()
    yield server
    server.stop()


def test_bytes_grow_linearly_with_trials(
    store: CountingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = f"?endpoint_override={store.address}&scheme=http&region=us-east-1"
    # as many epochs as checkpoints are kept: then Tune would write all it knows, for each trial
    study = stub_study(tmp_path, epochs=2)
    written, requests = {}, {}
    for number in (50, 100):
        bytes_before, requests_before = store.written, store.requests
        outcomes = run_trials(
            "search",
            StubTrainable,
            stub_trials(study, number),
            study,
            f"s3://test:test@studies/runs/{number}{query}",
            resume=False,
        )
        assert [outcome.status for outcome in outcomes] == ["done"] * number
        written[number] = store.written - bytes_before
        requests[number] = store.requests - requests_before
    with capsys.disabled():
        for number in written:
            print(
                f"\n{number} trials: {written[number] / 1e6:.2f} MB in {requests[number]}"
                f" requests, {written[number] / number / 1e3:.1f} kB and"
                f" {requests[number] / number:.1f} requests per trial",
                end="",
            )
    # what Tune writes once per stage (its view of all trials) may add a little
    assert written[100] / written[50] == pytest.approx(2, rel=0.05)
    assert requests[100] / requests[50] == pytest.approx(2, rel=0.05)
