"""docs/configuration.md is what the models say."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from darts_ray.config import SearchConfig, StudyConfig
from darts_ray.config.reading.messages import _models
from tests.docs.configuration import PAGE, SECTIONS, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "write it anew: python -m tests.docs.configuration"
    )


def reachable(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for nested in _models(field.annotation):
            yield from reachable(nested)


def test_every_section_has_a_table() -> None:
    shown = {model for _, model, _ in SECTIONS}
    for top in (StudyConfig, SearchConfig):
        # methods have a part of the page to themselves
        missing = {model.__name__ for model in reachable(top) if model not in shown}
        assert {name for name in missing if "Method" not in name} == set()
