"""How long a stage takes: its trials on their slots, and all that starting costs.

The constants are processor seconds on two 2.5 GHz cores; a busy machine takes longer.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from darts_ray.config import ResourcesSection

DRIVER_START_S = 5.0
"""Importing PyTorch, Ray and MLflow in the driver, and looking at the data."""

RAY_START_S = 7.0
"""Starting Ray, looking at cluster and storage, and stopping Ray."""

TRACKER_S = 4.0
"""Making or opening the tracking database, and delivering the last epochs."""

WORKER_START_S = 8.0
"""A process per slot and stage, which imports torch and opens the data."""

TRIAL_START_S = 1.5
"""Building the networks of a trial and writing its last checkpoint."""

EPOCH_S = 0.1
"""Reporting an epoch to Tune, and a small checkpoint; more where checkpoints are large."""

EXPORT_S = 15.0
REPORT_S = 5.0


def fixed_seconds(*, tracks: bool, exports: bool) -> float:
    """Return what a study takes beside its stages of trials.

    Args:
        tracks: whether MLflow is told.
        exports: whether there is an export stage.
    """
    optional = TRACKER_S * tracks + EXPORT_S * exports
    return DRIVER_START_S + RAY_START_S + REPORT_S + optional


def stage_seconds(trials: Sequence[float], epochs: int, slots: int, crowding: float) -> float:
    """Return the wall time of a stage; each trial takes the first slot that is free, as in Tune.

    Args:
        trials: what each takes by itself, in the order in which they start.
        epochs: per trial.
        slots: trials side by side; at least one.
        crowding: by how much each is slowed down by those beside it.
    """
    # why once: processes start once per stage and serve one trial after the other
    ends = [WORKER_START_S] * min(slots, len(trials))
    for seconds in trials:
        heapq.heapreplace(ends, ends[0] + crowding * seconds + TRIAL_START_S + epochs * EPOCH_S)
    return max(ends)


def crowding(resources: ResourcesSection, concurrent: int, workers: int, num_cpus: int) -> float:
    """Return how many threads of trials want a CPU, where they are more than there are CPUs.

    A trial computes with one thread at least, however small its share of a CPU is.
    """
    threads = concurrent * workers * max(1, math.floor(resources.cpus_per_trial))
    return max(1.0, threads / num_cpus)
