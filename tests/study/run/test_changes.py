from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from darts_ray.config import StudyConfig
from darts_ray.study.run.changes import CLASSES, class_of


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all fields of a model and of the sections in it."""
    for name, field in model.model_fields.items():
        sections = [
            kind
            for kind in (field.annotation, *get_args(field.annotation))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        yield f"{prefix}{name}"
        for section in sections:
            yield from fields(section, f"{prefix}{name}.")


@pytest.mark.parametrize("name", sorted(set(fields(StudyConfig))))
def test_every_field_has_a_class(name: str) -> None:
    """A new field fails here until somebody has decided what its change means.

    The fields of `tune` mean different things, so each has an entry of its own.
    """
    if name != "tune":
        assert class_of(name) is not None, f"enter {name} into darts_ray.study.run.changes.CLASSES"


def test_every_class_is_of_a_field() -> None:
    assert set(CLASSES) - set(fields(StudyConfig)) == set()
