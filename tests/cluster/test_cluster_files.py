"""The files for clusters, judged by what will read them."""

from __future__ import annotations

import fnmatch
import json
import shlex
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from darts_ray.config import load_config
from tests.cluster.page import page_command

REPOSITORY = Path(__file__).parents[2]
CLUSTER = REPOSITORY / "configs" / "cluster"
SCHEMA = json.loads((Path(__file__).parent / "rayjob_schema.json").read_text())
NEEDED = ("darts_ray", "pipelines", "configs")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "ray-cluster.yaml").read_text())


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    every = yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text())
    return {document["kind"]: document for document in every}


def files_needed() -> list[str]:
    """What an installation from the copied tree needs."""
    found = [
        path.relative_to(REPOSITORY).as_posix()
        for room in NEEDED
        for path in (REPOSITORY / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert len(found) > 100
    return [*found, "pyproject.toml", "README.md", "LICENSE"]


def leaves_out(pattern: str, file: str) -> bool:
    """Whether an rsync exclude pattern drops a file or a folder above it."""
    anchored, words = pattern.startswith("/"), PurePosixPath(pattern.strip("/"))
    parts = PurePosixPath(file).parts
    for end in range(1, len(parts) + 1):
        whole = parts[:end]
        compared = whole if anchored else whole[-len(words.parts) :]
        if len(compared) == len(words.parts) and fnmatch.fnmatch("/".join(compared), str(words)):
            return True
    return False


def test_patterns_without_a_slash_match_at_any_depth() -> None:
    assert leaves_out("data", "darts_ray/data/cache.py")
    assert not leaves_out("/data", "darts_ray/data/cache.py")
    assert leaves_out("/data/", "data/cifar10/x.parquet")


def test_what_ray_up_copies_has_the_whole_package(cluster: dict[str, Any]) -> None:
    patterns = cluster["rsync_exclude"]
    dropped = [f for f in files_needed() if any(leaves_out(p, f) for p in patterns)]
    assert dropped == []
    for heavy in ("data/cifar10/train.parquet", "runs/s/search/x.pt", ".git/HEAD", ".venv/bin/x"):
        assert any(leaves_out(pattern, heavy) for pattern in patterns), heavy


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_itself_copies_the_whole_package(cluster: dict[str, Any], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for file in (*files_needed(), ".gitignore"):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, tree / file)
    for heavy in ("data/x", "runs/x", ".git/x", ".venv/x", "darts_ray/__pycache__/x.pyc"):
        (tree / heavy).parent.mkdir(parents=True, exist_ok=True)
        (tree / heavy).touch()
    # as Ray calls it
    rules = [word for pattern in cluster["rsync_exclude"] for word in ("--exclude", pattern)]
    for name in cluster["rsync_filter"]:
        rules += ["--filter", f"dir-merge,- {name}"]
    copy = tmp_path / "copy"
    subprocess.run(["rsync", "-a", *rules, f"{tree}/", f"{copy}/"], check=True)
    copied = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert copied == {*files_needed(), ".gitignore"}


def test_ray_accepts_the_cluster_file(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_config(prepare_config({**cluster, "setup_comands": []}))


def test_the_pages_submission_names_files_that_are_there(cluster: dict[str, Any]) -> None:
    words = page_command("ray submit")
    config, script, study = words[2:5]
    assert (REPOSITORY / config).exists()
    assert (REPOSITORY / script).exists()
    (mount,) = [target for target, source in cluster["file_mounts"].items() if source == "."]
    home, folder = mount.rsplit("/", 1)
    assert home.startswith("/home/")  # where the script starts
    assert study.startswith(f"{folder}/")
    assert (REPOSITORY / study.removeprefix(f"{folder}/")).exists()
    assert cluster["setup_commands"] == [f"pip install {mount}"]


def test_the_rayjob_has_the_shape_of_its_definition(documents: dict[str, Any]) -> None:
    jsonschema.validate(documents["RayJob"], SCHEMA)
    wrong = json.loads(json.dumps(documents["RayJob"]))
    wrong["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] = "yes"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_workers_come_and_go_and_no_container_takes_all_memory(documents: dict[str, Any]) -> None:
    cluster = documents["RayJob"]["spec"]["rayClusterSpec"]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        if group["minReplicas"] < group["maxReplicas"]:
            assert cluster["enableInTreeAutoscaling"] is True
    groups = [
        cluster["headGroupSpec"],
        *cluster["workerGroupSpecs"],
        documents["Deployment"]["spec"],
    ]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["resources"]["limits"]["memory"]
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_the_jobs_command_is_one_and_its_tracker_is_in_the_file(documents: dict[str, Any]) -> None:
    words = shlex.split(documents["RayJob"]["spec"]["entrypoint"])
    assert words[:3] == ["darts-ray", "study", "/config/study.yaml"]
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    study = load_config(REPOSITORY / "configs/cifar10/study.yaml", settings)
    assert study.output == "/shared/runs"
    tracker = urlsplit(str(study.tracking.uri))
    service = documents["Service"]
    assert (tracker.hostname, tracker.port) == (
        service["metadata"]["name"],
        service["spec"]["ports"][0]["port"],
    )
    pod = documents["Deployment"]["spec"]["template"]
    assert pod["metadata"]["labels"] == service["spec"]["selector"]
    (hosts,) = [
        word.partition("=")[2]
        for word in pod["spec"]["containers"][0]["args"]
        if word.startswith("--allowed-hosts=")
    ]
    assert tracker.netloc in hosts.split(",")


@pytest.mark.parametrize("name", ["study", "search", "retrain"])
def test_the_pipelines_say_where_a_jobs_study_goes(name: str) -> None:
    text = (REPOSITORY / "pipelines" / f"{name}.py").read_text()
    assert f"python pipelines/{name}.py configs/cifar10/{name}.yaml --set output=/" in text
