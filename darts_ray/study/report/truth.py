"""What a published table says about a space, for comparison with what searches found."""

from __future__ import annotations

from dataclasses import dataclass

from darts_ray.benchmarks import nasbench201
from darts_ray.space import SearchSpace, spaces


@dataclass(frozen=True)
class Published:
    """What a published table says, for comparison: accuracies in percent.

    Attributes:
        dataset: whose test set.
        optimum: of the best cell.
        random_mean: of a uniformly random cell.
        trivial: by name, cells that nobody had to search for.
    """

    dataset: str
    optimum: float
    random_mean: float
    trivial: tuple[tuple[str, float], ...]


def has_table(space: SearchSpace | None) -> bool:
    """Tell whether the space is that of the published table, whatever its name."""
    return space is not None and space.cells == spaces["nasbench201"].cells


def published_facts(dataset: str) -> Published:
    """Return what is worth knowing beside the searches' own accuracies."""
    trivial = (
        ("all 3x3 convolutions", nasbench201.ALL_CONV3X3),
        ("a ResNet-like cell", nasbench201.RESNET_LIKE),
        ("all skip connections", nasbench201.ALL_SKIP),
    )
    return Published(
        dataset,
        nasbench201.optimum(dataset)[1],
        nasbench201.random_mean_and_std(dataset)[0],
        tuple((name, nasbench201.accuracy(cell, dataset)) for name, cell in trivial),
    )
