from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pyarrow.fs
import pytest
from moto.server import ThreadedMotoServer

from darts_ray.tune import preflight, run_trials
from tests.tune.stub import StubRun, StubTrainable, epochs_run, stub_study, stub_trials

# why: boto3 and moto's server leave sockets to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def bucket() -> Iterator[tuple[str, str]]:
    """Location of a bucket on a local S3 server, and the query that its URIs need."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="studies")
    client.close()
    query = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    yield "s3://test:test@studies", query
    server.stop()


def test_trials_live_and_resume_in_an_object_store(
    bucket: tuple[str, str], tmp_path: Path, local_ray: None
) -> None:
    location, query = bucket
    storage = f"{location}/runs/study{query}"
    study = stub_study(tmp_path, tracking={"enabled": False}, tune={"max_failures": 1})
    preflight(study, storage)
    (tmp_path / "kill-0-3").touch()
    outcomes = run_trials(
        "search", StubTrainable, stub_trials(study, 2), study, storage, resume=False
    )
    expected = []
    for seed in range(2):
        run = StubRun(study.search_config({}, seed), log=False)
        expected.append([run.run_epoch()["validation_accuracy"] for _ in range(4)])
    measured = [[epoch["validation_accuracy"] for epoch in o.history] for o in outcomes]
    assert measured == expected
    assert epochs_run(tmp_path, 0) == [1, 2, 3, 3, 4]
    last = f"{location}/runs/study/search/search-000/checkpoint_000003{query}"
    assert outcomes[0].checkpoint == last
    fs, path = pyarrow.fs.FileSystem.from_uri(last)
    with fs.open_output_stream(f"{path}/state.pt") as stream:
        stream.write(b"cut short")

    again = run_trials("search", StubTrainable, stub_trials(study, 2), study, storage, resume=True)
    assert [[epoch["validation_accuracy"] for epoch in o.history] for o in again] == expected
    assert epochs_run(tmp_path, 0) == [1, 2, 3, 3, 4, 4]
    assert again[0].history[-1]["checkpoints_skipped"] == 1
    assert again[1] == outcomes[1]
