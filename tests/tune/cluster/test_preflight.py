from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from darts_ray.config import build_config
from darts_ray.data import open_data
from darts_ray.errors import ConfigError, DataError, ResourceError, StudyError, TrackingError
from darts_ray.tune import preflight
from darts_ray.tune.cluster import capacity
from darts_ray.tune.cluster.preflight import checkpoint_bytes
from tests.tune.stub import stub_study


@pytest.fixture(autouse=True)
def one_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cluster of one node with 4 CPUs and a GPU, as `ray.nodes` describes it."""
    node = {"Alive": True, "NodeID": "n", "Resources": {"CPU": 4.0, "GPU": 1.0}}
    dead = {"Alive": False, "NodeID": "m", "Resources": {"CPU": 64.0, "GPU": 8.0}}
    monkeypatch.setattr("ray.nodes", lambda: [node, dead])
    session = SimpleNamespace(get_temp_dir=lambda: str(tmp_path / "ray"))
    monkeypatch.setattr("ray.get_runtime_context", lambda: session)


def check(tmp_path: Path, **sections: Any) -> None:
    sections.setdefault("tracking", {"enabled": False})
    preflight(stub_study(tmp_path / "cache", **sections), str(tmp_path / "a/b"), {"search": 2})


def test_what_fits_passes_and_leaves_nothing(tmp_path: Path) -> None:
    check(tmp_path, resources={"cpus_per_trial": 4, "gpus_per_trial": 0.25})
    assert not (tmp_path / "a").exists()
    (tmp_path / "a/b").mkdir(parents=True)
    check(tmp_path)
    assert list((tmp_path / "a/b").iterdir()) == []


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"cpus_per_trial": 5}, r"the largest have 4 CPUs.*set resources.cpus_per_trial to 4"),
    ],
)
def test_resources_that_no_node_has(
    resources: dict[str, float], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ResourceError, match=message):
        check(tmp_path, resources=resources)


def test_workers_that_all_nodes_together_have_no_room_for(tmp_path: Path) -> None:
    study = build_config(
        {
            "name": "parallel",
            "data": {"source": "digits", "max_train": 100},
            "retrain": {"genotype": "DARTS_V2", "batch_size": 12},
            "resources": {"cpus_per_trial": 2, "workers_per_trial": 3},
        },
        "test",
    )
    with pytest.raises(ResourceError, match=r"3 workers with 2 CPUs and 0 GPUs each.*room for 2"):
        capacity.wait_for_nodes(study)


def test_a_gpu_that_no_node_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"Alive": True, "NodeID": "n", "Resources": {"CPU": 4.0}}
    monkeypatch.setattr("ray.nodes", lambda: [node])
    with pytest.raises(ResourceError, match=r"set resources\.gpus_per_trial=0 to run on CPUs"):
        check(tmp_path, resources={"gpus_per_trial": 0.5})


def test_cuda_without_a_gpu_per_trial(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"search.device: cuda needs a GPU"):
        check(tmp_path, search={"device": "cuda"})
    with pytest.raises(ResourceError, match=r"search.graphs: CUDA graphs need a GPU"):
        check(tmp_path, search={"graphs": True})
    check(tmp_path, search={"graphs": True}, resources={"gpus_per_trial": 1})


@pytest.mark.parametrize("maker", ["ray up", "KubeRay", "resources.wait_s"])
def test_clusters_that_grow_are_asked_and_waited_for(
    maker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(capacity, "GROWING_WAIT_S", 0.25)
    monkeypatch.setattr(capacity, "POLL_S", 0.05)
    asked: list[Any] = []
    monkeypatch.setattr(capacity, "request_resources", lambda bundles: asked.append(bundles))
    resources = {"cpus_per_trial": 8}
    if maker == "ray up":
        (tmp_path / "ray_bootstrap_config.yaml").touch()
    elif maker == "KubeRay":
        monkeypatch.setenv("RAY_USAGE_STATS_KUBERAY_IN_USE", "1")
    else:
        resources["wait_s"] = 0.25
    with pytest.raises(ResourceError, match=r"1 GPUs \(waited 0 s\).*resources\.wait_s"):
        check(tmp_path, resources=resources)
    assert asked == [[{"CPU": 8}], []]


def test_a_study_that_goes_on_does_not_wait_for_its_tracker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    study = stub_study(tmp_path / "cache", tracking={"uri": "http://127.0.0.1:9"})
    preflight(study, str(tmp_path / "a"), continues=True)
    assert "does not answer" in caplog.text
    assert "The study goes on" in caplog.text


def test_storage_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(StudyError, match="cannot be written"):
        check(tmp_path)


@pytest.mark.parametrize(
    "place", ["session_2026/runtime_resources/working_dir_files/_ray_pkg_1/runs/s", "session_1/s"]
)
def test_an_output_among_rays_own_files_is_refused(place: str, tmp_path: Path) -> None:
    study = stub_study(tmp_path / "cache", tracking={"enabled": False})
    with pytest.raises(StudyError, match=r"among Ray's own files.*--set output=/mnt/shared/runs"):
        preflight(study, str(tmp_path / "ray" / place))
    assert not (tmp_path / "ray").exists()
    preflight(study, str(tmp_path / "ray" / "runs"))  # a user may have put it beside them


def test_too_small_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(free=1000)
    monkeypatch.setattr("darts_ray.tune.cluster.preflight.shutil.disk_usage", lambda _: free)
    with pytest.raises(ResourceError, match=r"the checkpoints need about .* GB"):
        check(tmp_path)


def test_checkpoints_are_estimated_from_the_networks(tmp_path: Path) -> None:
    network = {"channels": 16, "layers": 8}
    study = stub_study(tmp_path, search={"network": network}, tune={"keep_checkpoints": 3})
    info = open_data(study.data).info
    # REFERENCE.md: 1,930,618 weights on RGB images; grey ones have two stem channels less
    weights = 1_930_618 - 2 * 48 * 9
    assert checkpoint_bytes(study, info, {"search": 5}) == weights * 12 * 3 * 5


def test_data_and_tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"source": "parquet", "path": str(tmp_path / "missing")}
    with pytest.raises(DataError, match="missing"):
        check(tmp_path, data=missing)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    with pytest.raises(TrackingError, match="does not answer"):
        check(tmp_path, tracking={"uri": "http://127.0.0.1:9"})


def test_schedulers_and_searchers_that_do_not_suit_the_axes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tune\.scheduler: pbt changes learning rates"):
        check(tmp_path, tune={"scheduler": "pbt"})
    with pytest.raises(ConfigError, match=r"tune\.searcher: optuna needs at least one axis"):
        check(tmp_path, tune={"searcher": "optuna"})
    assert not (tmp_path / "a").exists()


def test_what_an_interrupted_stage_has_written_needs_no_second_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = stub_study(tmp_path / "cache")
    needed = checkpoint_bytes(study, open_data(study.data).info, {"search": 2})
    free = SimpleNamespace(free=needed - 1000)
    monkeypatch.setattr("darts_ray.tune.cluster.preflight.shutil.disk_usage", lambda _: free)
    with pytest.raises(ResourceError, match="the checkpoints need about"):
        check(tmp_path)
    (tmp_path / "a/b/search/search-000").mkdir(parents=True)
    (tmp_path / "a/b/search/search-000/state.pt").write_bytes(bytes(1000))
    check(tmp_path)
