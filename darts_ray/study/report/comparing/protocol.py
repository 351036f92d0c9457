"""What has to be equal in studies before their scores may be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from darts_ray.study.files.study import Study
from darts_ray.study.plan.settings import settings_of

PLACES = frozenset({"path", "cache_dir", "download", "workers"})
"""Fields of the data that say where they lie and how they are read, not what they are."""

SEARCH_BUDGET = (
    "epochs",
    "batch_size",
    "max_steps",
    "train_portion",
    "network",
    "space",
    "augment",
    "precision",
)
"""Fields of a search that are its budget or its task; the others are what is compared."""

ALL_EPOCHS = "epochs with its method's own"
"""What a search trains for in all, where its method goes on after the configured epochs."""

NOT_BUDGET = frozenset(
    {
        "seeds",
        "genotype",
        "cells",
        "imports",
        "device",
        "compile",
        "deterministic",
        "eval_batch_size",
    }
)
"""Fields of a training that are no part of its budget: which cell, how often, on what."""

Protocol = Mapping[str, Mapping[str, str] | None]
"""Section to field to value as text; None for a stage that a study does not have."""


def protocol(study: Study) -> Protocol:
    """Return what a study's scores rest on.

    Where a study has an axis over one of these fields, its text names all values.
    """
    config = study.config
    data = config.data.model_dump(mode="json", exclude=set(PLACES))
    fingerprint = study.provenance.get("data_fingerprint")
    if fingerprint is not None:
        data["fingerprint"] = fingerprint
    sections: dict[str, Mapping[str, str] | None] = {
        "data": {name: _text(value) for name, value in data.items()},
        "tune": {"scheduler": _text(config.tune.model_dump(mode="json")["scheduler"])},
        "search": None if config.search is None else _search_budget(study),
    }
    for name in ("select", "retrain"):
        part = getattr(config, name)
        if part is None:
            sections[name] = None
            continue
        values = part.model_dump(mode="json", exclude=set(NOT_BUDGET))
        if name == "select" or config.judges_each:  # a cell's score is the mean over them
            values["number of seeds"] = len(part.seeds)
        sections[name] = {field: _text(value) for field, value in values.items()}
    return sections


def differences(protocols: Mapping[str, Protocol]) -> list[str]:
    """Return one line per field in which protocols differ.

    That some studies retrain nothing is no difference: nothing is compared there then.

    Args:
        protocols: of each study, by its label.
    """
    lines = []
    for section in dict.fromkeys(name for values in protocols.values() for name in values):
        present = {study: values[section] for study, values in protocols.items()}
        having = {study: fields for study, fields in present.items() if fields is not None}
        lacking = [study for study, fields in present.items() if fields is None]
        if having and lacking and section != "retrain":
            lines.append(f"{section}: only {', '.join(having)} has this stage")
            continue
        for field in dict.fromkeys(name for fields in having.values() for name in fields):
            by_text: dict[str, list[str]] = {}
            for study, fields in having.items():
                by_text.setdefault(fields.get(field, "not given"), []).append(study)
            if len(by_text) > 1:
                parts = [f"{text} in {', '.join(studies)}" for text, studies in by_text.items()]
                lines.append(f"{section}.{field}: {'; '.join(parts)}")
    return lines


def budget(studies: Sequence[Study]) -> str:
    """Return the budget of studies in words; of the first that has each stage."""
    parts = []
    configs = [study.config for study in studies]
    for config in [c for c in configs if c.search is not None][:1]:
        search = config.search_config(settings_of(config)[0].values, config.seeds[0])
        steps = "" if search.max_steps is None else f" of at most {search.max_steps} steps"
        parts.append(f"search of {search.epochs} epochs{steps}, batch size {search.batch_size}")
    for select in [c.select for c in configs if c.select is not None][:1]:
        number = len(select.seeds)
        times = f", the mean of {number} trainings" if number > 1 else ""
        parts.append(f"short training of {select.epochs} epochs{times}")
    for retrain in [c.retrain for c in configs if c.retrain is not None][:1]:
        parts.append(f"retraining of {retrain.epochs} epochs")
    return "; ".join(parts)


def _search_budget(study: Study) -> dict[str, str]:
    config = study.config
    texts: dict[str, dict[str, None]] = {}
    for setting in settings_of(config):
        search = config.search_config(setting.values, config.seeds[0])
        values = search.model_dump(mode="json", include=set(SEARCH_BUDGET))
        # why at least those: a baseline that needs fewer has no larger budget than the others
        values[ALL_EPOCHS] = max(search.epochs, search.method.total_epochs(search))
        for name in (*SEARCH_BUDGET, ALL_EPOCHS):
            texts.setdefault(name, {})[_text(values[name])] = None
    return {name: " or ".join(sorted(values)) for name, values in texts.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
