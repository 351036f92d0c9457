"""True accuracies over searches, beside what the published table says of the whole space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from darts_ray.benchmarks import nasbench201
from darts_ray.errors import StudyError
from darts_ray.study.files.record import SearchEntry
from darts_ray.study.files.study import TABLE_FILE, Study
from darts_ray.study.report.statistics import Share, Summary, share, summarise


@dataclass(frozen=True)
class TrueAccuracy:
    """One setting's cells on a dataset, in percent.

    Attributes:
        setting: its text.
        score: over its searches.
        below_random: searches whose cell is worse than a random one on average.
    """

    setting: str
    score: Summary
    below_random: Share


@dataclass(frozen=True)
class Published:
    """What a published table says, for comparison: accuracies in percent.

    Attributes:
        dataset: whose test set.
        optimum: of the best cell.
        random_mean: of a uniformly random cell.
        trivial: by name, cells that nobody had to search for.
        settings: those that have searched the space.
    """

    dataset: str
    optimum: float
    random_mean: float
    trivial: tuple[tuple[str, float], ...]
    settings: tuple[TrueAccuracy, ...]


def true_accuracies(
    entries: Sequence[SearchEntry], table: nasbench201.Table | None = None
) -> tuple[Published, ...]:
    """Return what the benchmark stage found, dataset by dataset; nothing before it has run.

    Args:
        entries: searches of the study.
        table: in which their cells were looked up; default: the shipped one.
    """
    datasets = dict.fromkeys(name for entry in entries for name in entry.true_accuracy)
    return tuple(_on(dataset, entries, table) for dataset in datasets)


def kept_table(study: Study) -> nasbench201.Table | None:
    """Return the study's own table, as the benchmark stage has kept it; None: the shipped one.

    Raises:
        StudyError: it is gone or damaged.
    """
    looked_up = any(entry.true_accuracy for entry in study.record.search)
    if study.config.benchmark.table is None or not looked_up:
        return None
    if not study.folder.has(TABLE_FILE):
        raise StudyError(
            f"{study.folder.child(TABLE_FILE)}: is gone, in which true accuracies were looked up."
            f" `darts-ray resume {study.folder}` writes it anew from benchmark.table."
        )
    content = study.folder.read_table(TABLE_FILE)
    return nasbench201.ColumnTable.from_arrow(study.folder.child(TABLE_FILE), content)


def _on(
    dataset: str, entries: Sequence[SearchEntry], table: nasbench201.Table | None
) -> Published:
    trivial = (
        ("all 3x3 convolutions", nasbench201.ALL_CONV3X3),
        ("a ResNet-like cell", nasbench201.RESNET_LIKE),
        ("all skip connections", nasbench201.ALL_SKIP),
    )
    random_mean = nasbench201.random_mean_and_std(dataset, table=table)[0]
    settings = []
    for setting in dict.fromkeys(entry.setting for entry in entries):
        ours = (entry for entry in entries if entry.setting == setting)
        values = [100 * e.true_accuracy[dataset] for e in ours if dataset in e.true_accuracy]
        score, below = summarise(values), share([value < random_mean for value in values])
        if score is not None and below is not None:
            settings.append(TrueAccuracy(setting, score, below))
    return Published(
        dataset,
        nasbench201.optimum(dataset, table=table)[1],
        random_mean,
        tuple((name, nasbench201.accuracy(cell, dataset, table=table)) for name, cell in trivial),
        tuple(settings),
    )
