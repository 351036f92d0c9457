"""A cluster that grows to three nodes and loses one: python -m tests.tune.lose_node FOLDER.

A process of its own, because Ray keeps in the process whether clusters ask for a token: a
`Cluster` that is made after another Ray was used cancels every actor.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.tune import Callback

from darts_ray.errors import ResourceError, StudyError
from darts_ray.tune import preflight, run_trials
from tests.tune.stub import StubRun, StubTrainable, epochs_run, stub_study, stub_trials


class LoseNode(Callback):
    """Kills the node of the first trial that reports its second epoch."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.lost = False

    def on_trial_result(self, result: dict[str, Any], **info: Any) -> None:
        if self.lost or result["epoch"] != 2:
            return
        self.lost = True
        raylet_of_trial = psutil.Process(result["pid"]).ppid()
        for node in list(self.cluster.worker_nodes):
            if node.all_processes["raylet"][0].process.pid == raylet_of_trial:
                self.cluster.remove_node(node, allow_graceful=False)
                return
        raise AssertionError("the trial's node is unknown")

    def __getstate__(self) -> dict[str, Any]:
        return {}


def check_growth(cluster: Cluster, folder: Path, storage: Path) -> None:
    """A cluster that has only its head yet; nodes come when they are asked for."""
    asked: list[list[dict[str, float]]] = []

    def autoscaler(bundles: list[dict[str, float]]) -> None:
        asked.append(bundles)
        for _ in bundles * 2:
            cluster.add_node(num_cpus=1, num_gpus=1)

    study = stub_study(folder, resources={**SHARED, "wait_s": 60}, tracking={"enabled": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts_ray.tune.cluster.capacity.request_resources", autoscaler)
        preflight(study, str(storage), {"search": 3})
    assert asked == [[{"CPU": 1, "GPU": 0.5}], []]
    assert not storage.parent.exists()


def check_preflight(folder: Path, storage: Path) -> None:
    study = stub_study(folder, resources=SHARED, tracking={"enabled": False})
    greedy = stub_study(folder, resources={"cpus_per_trial": 2}, tracking={"enabled": False})
    with pytest.raises(ResourceError, match=r"set resources\.cpus_per_trial to 1 or less"):
        preflight(greedy, str(storage))
    # one disk serves all nodes of this cluster, so what another node sees is made up
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts_ray.tune.cluster.nodes._probe_node", lambda *_: ("no such file", ""))
        with pytest.raises(StudyError, match="must be on a shared file system"):
            preflight(study, str(storage))


def check_slow_node(folder: Path, storage: Path, told: list[str]) -> None:
    """A node that reads a large folder is waited for; one that never answers is not."""

    def slow(*_: Any) -> tuple[str, str]:
        time.sleep(3)
        return "", ""

    study = stub_study(folder, resources=SHARED, tracking={"enabled": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("darts_ray.tune.cluster.nodes._probe_node", slow)
        patch.setattr("darts_ray.tune.cluster.nodes.PROGRESS_S", 0.5)
        patch.setattr("darts_ray.tune.cluster.nodes.logger.warning", lambda *a: told.append(a[0]))
        patch.setattr("darts_ray.tune.cluster.nodes.PROBE_S", 1.0)
        patch.setattr("darts_ray.tune.cluster.nodes.PROBE_S_PER_IMAGE", 1.0)  # of 100 images
        preflight(study, str(storage))
        patch.setattr("darts_ray.tune.cluster.nodes.PROBE_S_PER_IMAGE", 0.0)
        with pytest.raises(ResourceError, match="no answer within 1 s"):
            preflight(study, str(storage))
    assert any("are still reading the data" in text for text in told)


def check_lost_node(cluster: Cluster, folder: Path, storage: Path) -> None:
    study = stub_study(folder, resources=SHARED)
    (folder / "pause").write_text("0.3")
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
    for seed, outcome in enumerate(outcomes):
        assert outcome.status == "done", outcome.error
        run = StubRun(study.search_config({}, seed), log=False)
        expected = [run.run_epoch()["validation_accuracy"] for _ in range(4)]
        assert [epoch["validation_accuracy"] for epoch in outcome.history] == expected
        assert len(epochs_run(folder, seed)) <= 4 + 2


SHARED = {"cpus_per_trial": 1, "gpus_per_trial": 0.5}

if __name__ == "__main__":
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        place = Path(sys.argv[1])
        check_growth(cluster, place, place / "runs" / "study")
        cluster.wait_for_nodes()
        check_preflight(place, place / "runs" / "study")
        check_slow_node(place, place / "runs" / "study", [])
        check_lost_node(cluster, place, place / "runs" / "study")
        print("the study survived")
    finally:
        ray.shutdown()
        cluster.shutdown()
