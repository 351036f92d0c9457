"""Classes are told apart by name: labels of one part in terms of another part's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darts_ray.data.dataset import ImageData, Split
from darts_ray.errors import DataError

_SHOWN = 12  # names in a message, at most


def label_map(
    names: Sequence[str],
    reference: Sequence[str],
    where: str,
    reference_where: str,
    remedy: str = "Give each class the same name everywhere.",
) -> NDArray[np.int64]:
    """Return, for each label of one part, the label of the same class in the reference.

    Args:
        names: of the part's classes, by label.
        reference: of the reference's classes, by label.
        where: names the part in the message.
        reference_where: names the reference.
        remedy: ends the message.

    Raises:
        DataError: the part has a class that the reference does not have; the message shows both
            lists.
    """
    numbers = {name: number for number, name in enumerate(reference)}
    unknown = [name for name in names if name not in numbers]
    if unknown:
        raise DataError(
            f"{where} has classes that are not those of {reference_where}: {listed(unknown)}."
            f" Its classes: {listed(names)}. Those of {reference_where}: {listed(reference)}."
            f" {remedy}"
        )
    return np.array([numbers[name] for name in names], dtype=np.int64)


def mapped(labels: Tensor, mapping: NDArray[np.int64]) -> Tensor:
    """Return int64 labels (num,) after a `label_map`; the same tensor where it changes nothing."""
    if np.array_equal(mapping, np.arange(len(mapping))):
        return labels
    return torch.from_numpy(mapping)[labels]


def in_terms_of(data: ImageData, class_names: tuple[str, ...], reference_where: str) -> ImageData:
    """Return a dataset whose labels count another list of classes.

    Args:
        data: images of some or all of these classes, in any order.
        class_names: by new label.
        reference_where: names what they are the classes of, in messages.

    Raises:
        DataError: as `label_map`.
    """
    remedy = "data.class_names renames the classes of the data, in the order of their labels."
    mapping = label_map(data.info.class_names, class_names, "The dataset", reference_where, remedy)
    info = replace(data.info, class_names=class_names, num_classes=len(class_names))
    return replace(
        data,
        info=info,
        train=_relabelled(data.train, mapping),
        test_opener=partial(_open_relabelled, data, mapping),
    )


def renamed(found: tuple[str, ...], given: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    """Return the configured class names, else those found in the data.

    Raises:
        DataError: their number differs.
    """
    if given is None:
        return found
    if len(given) != len(found):
        raise DataError(
            f"{where}: data.class_names holds {len(given)} names, but there are {len(found)}"
            f" classes: {listed(found)}."
        )
    return given


def listed(names: Sequence[object]) -> str:
    """Return names for a message, the first few of many."""
    shown = ", ".join(map(str, names[:_SHOWN]))
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _open_relabelled(data: ImageData, mapping: NDArray[np.int64]) -> Split:
    return _relabelled(data.open_test(), mapping)


def _relabelled(split: Split, mapping: NDArray[np.int64]) -> Split:
    labels = mapped(split.labels, mapping)
    return split if labels is split.labels else split.with_labels(labels)
