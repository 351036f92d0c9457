"""Checks that would otherwise fail hours later: resources, storage, data, tracking."""

from __future__ import annotations

import logging
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import ray

from darts_ray.config import StudyConfig
from darts_ray.data import ImageInfo, TextInfo, open_data
from darts_ray.errors import ResourceError, StudyError, TrackingError
from darts_ray.nn import num_weights
from darts_ray.search import build_supernet
from darts_ray.tracking import check_server, named_uri
from darts_ray.train import build_network
from darts_ray.tune.cluster.capacity import wait_for_nodes
from darts_ray.tune.cluster.nodes import check_nodes
from darts_ray.tune.scheduling.given import check_scheduling

BYTES_PER_WEIGHT = 12
"""float32 value and momentum in the state, and the value once more in network.pt."""

logger = logging.getLogger("darts_ray.tune")


def preflight(
    study: StudyConfig,
    storage: str,
    num_trials: Mapping[str, int] | None = None,
    *,
    continues: bool = False,
) -> None:
    """Check everything that a study needs, inside `start_ray`; nothing is left behind.

    Args:
        study: the study.
        storage: absolute path or URI of the study folder.
        num_trials: trials per stage that will run, for the disk space of their checkpoints;
            None: not checked.
        continues: the study has begun before; a tracking server that is down then only delays
            what it is told.

    Raises:
        ConfigError: the scheduler or searcher does not suit the axes.
        ResourceError: a trial asks for more than any node has, or the disk is too small.
        StudyError: the storage is not writable, not shared by all nodes, or among Ray's own
            files.
        DataError: the data cannot be read here or on another node.
        TrackingError: the named tracking server does not answer, and the study begins.
    """
    check_scheduling(study)
    _check_output(storage)
    nodes = wait_for_nodes(study)
    uri = named_uri(study.tracking.uri)
    if study.tracking.enabled and uri is not None:
        _check_tracking(uri, continues)
    info = open_data(study.data).info
    if num_trials is not None and "://" not in storage:
        needed = checkpoint_bytes(study, info, num_trials)
        _check_disk(Path(storage), needed - _bytes_held(Path(storage), num_trials))
    with _probe_file(storage) as name:
        if len(nodes) > 1:
            check_nodes(nodes, study.data, info, storage, name)


def checkpoint_bytes(
    study: StudyConfig, info: ImageInfo | TextInfo, num_trials: Mapping[str, int]
) -> int:
    """Estimate the disk space of all checkpoints that the stages keep.

    Genotypes are not known yet; a published cell stands for those that will be found.

    Args:
        study: the study.
        info: its data.
        num_trials: trials per stage.
    """
    typical = "RECURRENT_DARTS_V1" if study.data.is_text else "DARTS_V2"
    weights = 0
    if study.search is not None and num_trials.get("search"):
        first = {name: axis.values[0] for name, axis in study.search_axes().items()}
        config = study.search_config(first, study.seeds[0])
        weights += num_trials["search"] * num_weights(build_supernet(config, info))
    if study.select is not None and num_trials.get("select"):
        network = build_network(study.select_config(typical, 0), info)
        weights += num_trials["select"] * num_weights(network)
    if study.retrain is not None and num_trials.get("retrain"):
        network = build_network(study.retrain_config(typical, 0), info)
        weights += num_trials["retrain"] * num_weights(network)
    return weights * BYTES_PER_WEIGHT * study.tune.keep_checkpoints


def _check_output(storage: str) -> None:
    """Refuse a place that Ray empties: a submitted job starts in a folder of that kind."""
    if "://" in storage:
        return
    ours = Path(ray.get_runtime_context().get_temp_dir()).resolve()
    path = Path(storage).resolve()
    if path.is_relative_to(ours) and path != ours:
        first = path.relative_to(ours).parts[0]
        if first.startswith("session_") or first == "runtime_resources":
            raise StudyError(
                f"output: {path} lies among Ray's own files, which Ray deletes. Name a shared"
                " folder or a URI: --set output=/mnt/shared/runs, or --set output=s3://bucket/runs."
            )


def _check_tracking(uri: str, continues: bool) -> None:
    try:
        check_server(uri)
    except TrackingError as error:
        # why: a study that restarts by itself at night must not end because the tracker is down
        if not continues:
            raise
        logger.warning("%s The study goes on; what MLflow misses is kept for it.", error)


def _bytes_held(storage: Path, stages: Iterable[str]) -> int:
    """Return what an interrupted run of these stages has written already."""
    files = (path for stage in stages for path in (storage / stage).rglob("*"))
    return sum(path.stat().st_size for path in files if path.is_file())


def _check_disk(folder: Path, needed: int) -> None:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise ResourceError(
            f"output: the checkpoints need about {needed / 1e9:.1f} GB and {existing} has"
            f" {free / 1e9:.1f} GB free. Free some, choose another output, or lower"
            " tune.keep_checkpoints or the number of seeds."
        )


@contextmanager
def _probe_file(storage: str) -> Iterator[str]:
    """Write a file into the study folder for the time of the block, and yield its name."""
    name = f".probe-{uuid.uuid4().hex}"
    missing = _missing_folders(storage)
    try:
        fs, root = pyarrow.fs.FileSystem.from_uri(storage)
        fs.create_dir(root)
        with fs.open_output_stream(f"{root}/{name}", compression=None) as stream:
            stream.write(name.encode())
    except (OSError, pa.ArrowException) as error:
        raise StudyError(
            f"output: {storage} cannot be written: {error}. Choose another output, or mend its"
            " permissions or credentials."
        ) from error
    try:
        yield name
    finally:
        fs.delete_file(f"{root}/{name}")
        for folder in missing:
            folder.rmdir()


def _missing_folders(storage: str) -> list[Path]:
    """Return the local folders that writing into `storage` would make, innermost first."""
    if "://" in storage:
        return []
    folder = Path(storage)
    return [path for path in (folder, *folder.parents) if not path.exists()]
