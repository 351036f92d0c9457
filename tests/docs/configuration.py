"""Writes docs/configuration.md from the models that read configurations.

python -m tests.docs.configuration
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from darts_ray.config import DataConfig, SearchConfig, SearchOptimConfig, StudyConfig
from darts_ray.config.data import AugmentConfig, ColorJitter
from darts_ray.config.export import ExportSection
from darts_ray.config.methods import METHOD_CONFIGS
from darts_ray.config.retrain import (
    ConvNetworkConfig,
    RecurrentNetworkConfig,
    RetrainOptimConfig,
)
from darts_ray.config.robustness import DropPathConfig, EarlyStopConfig
from darts_ray.config.search import (
    ConvSupernetConfig,
    RecurrentDropoutConfig,
    RecurrentSupernetConfig,
)
from darts_ray.config.sections import (
    BenchmarkSection,
    ResourcesSection,
    TrackingSection,
    TuneClass,
    TuneSection,
)
from darts_ray.config.space import EdgeConfig, SpaceConfig
from darts_ray.config.study import RetrainSection, SelectSection, TopCells
from tests.docs.blocks import REPOSITORY

PAGE = REPOSITORY / "docs" / "configuration.md"
HEAD = """\
# Configuration

Every key of a study's YAML file with its type, its default and what it means. A key that does not
exist is an error that names the nearest one; a key that does nothing beside the others is an error
or a warning. `--set search.epochs=10` on the command line changes a value of the file. The
resolved configuration of a study lies in its `study.yaml`.

Any scalar of the search section may be an axis instead of a value; the study then runs every
setting with every seed:

```yaml
search:
  method: {grid: [darts, pc_darts, random]}       # all of them
  optim:
    alpha_lr: {loguniform: [1.0e-4, 1.0e-2]}      # drawn `tune.num_samples` times
    order: first
tune:
  num_samples: 4
```

`{choice: [...]}` and `{uniform: [low, high]}` are drawn as well. Defaults are those of the DARTS
paper on CIFAR-10; for texts, and with `network.style: imagenet`, those of its searches and
trainings there (`darts_ray/config/recipes.py`).

This page is written by `python -m tests.docs.configuration`, and a test says when it is out of
date.
"""
SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("The study", StudyConfig, ""),
    ("data", DataConfig, ""),
    ("search", SearchConfig, "Without `data` and `seed`, which stand at the top level."),
    ("search.optim", SearchOptimConfig, ""),
    ("search.network of images", ConvSupernetConfig, ""),
    ("search.network of texts", RecurrentSupernetConfig, ""),
    (
        "network.dropout of texts",
        RecurrentDropoutConfig,
        "In `search`; `retrain` has `word: 0.1`.",
    ),
    ("search.drop_path", DropPathConfig, ""),
    ("search.early_stop", EarlyStopConfig, ""),
    ("search.space", SpaceConfig, "A name such as `darts`, `s1`, `nasbench201`, or this section."),
    ("search.space.edges", EdgeConfig, "One list of these for each kind of cell."),
    ("augment", AugmentConfig, "In `search`, `select` and `retrain`; the last two cut out 16."),
    ("augment.color_jitter", ColorJitter, ""),
    ("benchmark", BenchmarkSection, ""),
    ("select", SelectSection, ""),
    ("retrain", RetrainSection, ""),
    ("retrain.cells", TopCells, "Instead of `winner` or `each`."),
    ("network of images, in select and retrain", ConvNetworkConfig, ""),
    ("network of texts, in select and retrain", RecurrentNetworkConfig, ""),
    ("optim, in select and retrain", RetrainOptimConfig, ""),
    ("export", ExportSection, ""),
    ("tracking", TrackingSection, ""),
    ("resources", ResourcesSection, ""),
    ("tune", TuneSection, ""),
    ("tune.scheduler and tune.searcher", TuneClass, "Instead of a word."),
)
METHODS = """\
## search.method

A name, or `{name: NAME, ...}` with the values below; a method of one's own also names its module
in `imports` ([how](extending.md#a-search-method)). [Methods](methods.md) says what they compute.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [HEAD]
    for title, model, note in SECTIONS:
        parts.append("\n".join([f"## {title}", "", *_intro(model, note), *_table(model), ""]))
        if model is SearchOptimConfig:
            parts.append(METHODS)
            parts += [
                "\n".join(
                    [
                        f"### {name}",
                        "",
                        *_intro(method, ""),
                        *_table(method, ("name", "imports")),
                        "",
                    ]
                )
                for name, method in METHOD_CONFIGS.items()
            ]
    return "\n".join(parts)


def _intro(model: type[BaseModel], note: str) -> list[str]:
    paragraphs = (model.__doc__ or "").strip().split("\n\n")
    text = " ".join(line.strip() for line in paragraphs[0].splitlines())
    return [" ".join(filter(None, (text, note))), ""]


def _table(model: type[BaseModel], left_out: tuple[str, ...] = ()) -> list[str]:
    schema = model.model_json_schema()
    if model is SearchConfig:
        left_out = ("data", "seed")
    rows = [
        f"| `{name}` | {_kind(schema['properties'][name], schema)} | {_default(model, name)}"
        f" | {_cell(field.description or '')} |"
        for name, field in model.model_fields.items()
        if name not in left_out
    ]
    return ["| key | type | default | meaning |", "|---|---|---|---|", *rows] if rows else []


def _default(model: type[BaseModel], name: str) -> str:
    value = model.model_fields[name].get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return f"`{getattr(value, 'name', None) or getattr(value, 'kind', None) or 'see below'}`"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value)}`".replace('"', "")


def _kind(schema: dict[str, Any], root: dict[str, Any]) -> str:
    return _cell(" or ".join(dict.fromkeys(_kinds(schema, root))))


def _kinds(schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        for option in options:
            yield from _kinds(option, root)
    elif "$ref" in schema:
        yield "section"
    elif "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        yield " or ".join(f"`{value}`" for value in values)
    elif schema.get("type") == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        yield f"list of {' or '.join(dict.fromkeys(_kinds(items, root)))}"
    elif schema.get("type") == "null":
        yield "`null`"
    else:
        names = {"object": "section", "string": "text", "boolean": "`true` or `false`"}
        kind = names.get(schema.get("type", ""), schema.get("type", "any"))
        yield kind + _range(schema)


def _range(schema: dict[str, Any]) -> str:
    signs = {
        "minimum": ">=",
        "exclusiveMinimum": ">",
        "maximum": "<=",
        "exclusiveMaximum": "<",
    }
    # the largest integer of a seed says nothing to a reader
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in signs.items()
        if key in schema and schema[key] < 2**53
    ]
    return f" {', '.join(bounds)}" if bounds else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
