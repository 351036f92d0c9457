from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.tune import Callback

from darts_ray.errors import ResourceError, StudyError
from darts_ray.tune import preflight, run_trials
from tests.tune.stub import StubRun, StubTrainable, epochs_run, stub_study, stub_trials

# why: ray.cluster_utils leaves its pipes to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def cluster(ray_variables: dict[str, str]) -> Iterator[Cluster]:
    """A head without trials and two workers with a fake GPU each."""
    before = dict(os.environ)
    os.environ.update(ray_variables)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)


class LoseNode(Callback):
    """Kills the node of the first trial that reports its second epoch."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.lost = False

    def on_trial_result(self, result: dict[str, Any], **info: Any) -> None:
        if self.lost or result["epoch"] != 2:
            return
        self.lost = True
        pid = result["pid"]
        for node in list(self.cluster.worker_nodes):
            raylet = node.all_processes["raylet"][0].process.pid
            if Path(f"/proc/{pid}/stat").read_text().split()[3] == str(raylet):
                self.cluster.remove_node(node, allow_graceful=False)
                return
        raise AssertionError("the trial's node is unknown")

    def __getstate__(self) -> dict[str, Any]:
        return {}


def test_preflight_and_a_node_that_dies(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = {"cpus_per_trial": 1, "gpus_per_trial": 0.5}
    study = stub_study(tmp_path, resources=resources, tracking={"enabled": False})
    storage = tmp_path / "runs" / "study"
    preflight(study, str(storage), {"search": 3})
    assert not storage.parent.exists()
    with pytest.raises(ResourceError, match=r"2 GPUs.*set resources.gpus_per_trial to 1 or less"):
        preflight(stub_study(tmp_path, resources={"gpus_per_trial": 2}), str(storage))
    # one disk serves all nodes of this cluster, so what another node sees is made up
    monkeypatch.setattr("darts_ray.tune.checks._probe_node", lambda *_: ("no such file", ""))
    with pytest.raises(StudyError, match="must be on a shared file system"):
        preflight(study, str(storage))

    (tmp_path / "pause").write_text("0.3")
    loser = LoseNode(cluster)
    outcomes = run_trials(
        "search",
        StubTrainable,
        stub_trials(study, 3),
        study,
        str(storage),
        resume=False,
        callbacks=[loser],
    )
    assert loser.lost, [outcome.error for outcome in outcomes]
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    for seed, outcome in enumerate(outcomes):
        run = StubRun(study.search_config({}, seed), log=False)
        expected = [run.run_epoch()["validation_accuracy"] for _ in range(4)]
        assert [epoch["validation_accuracy"] for epoch in outcome.history] == expected
        assert len(epochs_run(tmp_path, seed)) <= 4 + 2
