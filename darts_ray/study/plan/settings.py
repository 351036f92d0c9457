"""The settings that a study compares, and the trials they become."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pydantic_core import to_jsonable_python

from darts_ray.config import Axis, RetrainConfig, SearchConfig, StudyConfig
from darts_ray.config.base import Model
from darts_ray.errors import ConfigError
from darts_ray.study.files.entries import Candidate
from darts_ray.study.files.record import NO_AXIS
from darts_ray.tune import TrialSpec
from darts_ray.tune.trials.planned import FORM, FORM_KEYS

SAMPLED = ("choice", "uniform", "loguniform")
DRAW_SEED = 0
"""Draws of sampled axes are the same in every run of a study."""


@dataclass(frozen=True)
class Setting:
    """One value per axis; `text` is how tables name it."""

    text: str
    values: Mapping[str, Any]


def settings_of(config: StudyConfig) -> list[Setting]:
    """Return every combination of the grid axes with every draw of the sampled ones.

    A draw is shared by all combinations and a setting by all seeds, so that statistics over
    seeds are per setting and settings can be compared in pairs. Draws that fall on the same
    values count once.

    Raises:
        ConfigError: draws are asked for but no axis is sampled.
    """
    axes = config.search_axes()
    sampled = {name: axis for name, axis in axes.items() if axis.kind in SAMPLED}
    grid = {name: axis for name, axis in axes.items() if axis.kind not in SAMPLED}
    if config.tune.num_samples > 1 and not sampled:
        raise ConfigError(
            f"tune.num_samples: {config.tune.num_samples} draws, but no axis of the search"
            " section is drawn: use {uniform: [a, b]}, {loguniform: [a, b]} or {choice: [...]},"
            " or leave num_samples out."
        )
    generator = random.Random(DRAW_SEED)
    draws = [
        {name: _draw(axis, generator) for name, axis in sampled.items()}
        for _ in range(config.tune.num_samples)
    ]
    found: dict[str, Setting] = {}
    for values in product(*(axis.values for axis in grid.values())):
        for draw in draws:
            chosen = {**dict(zip(grid, values, strict=True)), **draw}
            ordered = {name: chosen[name] for name in axes}
            text = setting_text(ordered)
            found.setdefault(text, Setting(text, ordered))
    return list(found.values())


def setting_text(values: Mapping[str, Any]) -> str:
    """Return `order=unrolled, xi=0.025`; an axis is named by its last part if that is unique."""
    last = [name.rpartition(".")[2] for name in values]
    parts = []
    for name, value in values.items():
        short = name.rpartition(".")[2]
        shown = f"{value:g}" if isinstance(value, float) else _plain(value)
        parts.append(f"{short if last.count(short) == 1 else name}={shown}")
    return ", ".join(parts) or NO_AXIS


def searches_of(config: StudyConfig) -> list[tuple[Setting, SearchConfig]]:
    """Return every setting with the search of its first seed.

    Raises:
        ConfigError: values that are fine by themselves do not combine; it names all such settings.
    """
    searches: list[tuple[Setting, SearchConfig]] = []
    unsuitable: list[str] = []
    for setting in settings_of(config):
        try:
            searches.append((setting, config.search_config(setting.values, config.seeds[0])))
        except ConfigError as error:
            unsuitable.append(f"  {setting.text}: {error}")
    if unsuitable:
        of_all = f"{len(unsuitable)} of {len(unsuitable) + len(searches)}"
        lines = "\n".join(unsuitable)
        raise ConfigError(
            f"search: {of_all} settings cannot be searched:\n{lines}\nLeave these values out, or"
            " search them in a study of their own."
        )
    return searches


def baseline_setting(config: StudyConfig) -> str | None:
    """Return the text of the setting to which all others are related.

    Args:
        config: the study; without a baseline in it, random cells are it where there are any.

    Raises:
        ConfigError: no setting has that method or text, or several have the method.
    """
    if config.search is None:
        return None
    searches, wanted = searches_of(config), config.baseline or "random"
    methods = {setting.text: search.method.name for setting, search in searches}
    if wanted in methods:
        return wanted
    matching = [text for text, method in methods.items() if method == wanted]
    if len(matching) == 1:
        return matching[0]
    if config.baseline is None:
        return None
    if matching:
        raise ConfigError(
            f"baseline: {len(matching)} settings have the method {wanted!r}; name one of them:"
            f" {'; '.join(matching)}."
        )
    raise ConfigError(
        f"baseline: no setting has the method or the text {wanted!r}. Methods of this study:"
        f" {', '.join(dict.fromkeys(methods.values()))}; settings: {'; '.join(methods)}."
    )


def search_trials(
    config: StudyConfig, aliases: Mapping[str, str] | None = None
) -> list[TrialSpec]:
    """Return one trial per setting and seed, named by what it computes and not by its place.

    So seeds and settings may be added to a study without renaming what it has.

    Args:
        config: the study.
        aliases: other names of some trials, by the name that follows from their content.
    """
    names = aliases or {}
    trials: dict[str, TrialSpec] = {}
    for setting in settings_of(config):
        for seed in config.seeds:
            search = config.search_config(setting.values, seed)
            name = _search_name(_content(search, leave_out=("data", "seed")), seed)
            if name in trials:
                raise ConfigError(
                    f"search: the settings {trials[name].setting!r} and {setting.text!r} describe"
                    " the same searches; leave one of them out."
                )
            values = search.model_dump(mode="json")
            trials[name] = TrialSpec(names.get(name, name), values, setting.text, seed)
    return list(trials.values())


def _search_name(content: Mapping[str, Any], seed: int) -> str:
    text = json.dumps(content, sort_keys=True)
    return f"search-{hashlib.sha256(text.encode()).hexdigest()[:8]}_seed-{seed}"


def _content(model: Model, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a model says that its defaults do not, and of which class it is.

    Without defaults, so that an option that a later version adds renames nothing. The names of
    classes always count: all methods with their own defaults would look alike without.
    """
    content: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        default = field.get_default(call_default_factory=True)
        if name in leave_out or (value == default and name not in ("name", "kind")):
            continue
        content[name] = _content(value) if isinstance(value, Model) else to_jsonable_python(value)
    return content


def old_names(config: StudyConfig, begun: Mapping[tuple[str, int], str]) -> dict[str, str]:
    """Return the names that version 0.1 gave to a study's searches, by those of today.

    Args:
        config: the study.
        begun: names that are known, by setting and seed; others follow from the place in the plan.
    """
    trials = search_trials(config)
    digits = max(3, len(str(len(trials) - 1)))
    if not begun:
        return {trial.name: f"search-{i:0{digits}d}" for i, trial in enumerate(trials)}
    keyed = ((trial.name, begun.get((trial.setting, trial.seed))) for trial in trials)
    return {name: old for name, old in keyed if old is not None}


def first_content_names(config: StudyConfig) -> dict[str, str]:
    """Return the first names that followed from a search's content, by those of today.

    They left out the names of methods and networks; of searches that looked alike only one ran.
    """
    names: dict[str, str] = {}
    for trial in search_trials(config):
        search = SearchConfig.model_validate(trial.config)
        content = search.model_dump(mode="json", exclude={"data", "seed"}, exclude_defaults=True)
        first = _search_name(content, trial.seed)
        if first not in names.values():
            names[trial.name] = first
    return names


def select_trials(config: StudyConfig, found: Sequence[Candidate]) -> list[TrialSpec]:
    """Return one short training per distinct cell and select seed."""
    assert config.select is not None
    return [
        _training(
            f"{candidate.name}_seed-{seed}",
            config.select_config(candidate.genotype.to_dict(), seed),
            candidate.setting,
        )
        for candidate in found
        for seed in config.select.seeds
    ]


def retrain_trials(config: StudyConfig, cells: Sequence[Candidate]) -> list[TrialSpec]:
    """Return one full training per distinct cell and retrain seed.

    Args:
        config: the study.
        cells: the winner's first; one of its networks is exported, so their files are tested too.
    """
    assert config.retrain is not None
    # why: a name of its own per stage and cell, so that a new winner is trained afresh
    return [
        _training(
            f"{cell.name.replace('cell', 'retrain')}_seed-{seed}",
            config.retrain_config(cell.genotype.to_dict(), seed),
            cell.setting,
            _file_form(config) if cell is cells[0] else None,
        )
        for cell in cells
        for seed in config.retrain.seeds
    ]


def _file_form(config: StudyConfig) -> dict[str, Any]:
    """Return what `RetrainTrainable` takes as the form of the file that it tests."""
    if config.export is None or config.data.is_text:
        return {}
    return {FORM: config.export.model_dump(mode="json", include=set(FORM_KEYS))}


def _training(
    name: str, config: RetrainConfig, setting: str, extra: Mapping[str, Any] | None = None
) -> TrialSpec:
    values = {**config.model_dump(mode="json"), **(extra or {})}
    return TrialSpec(name, values, setting, config.seed)


def _draw(axis: Axis, generator: random.Random) -> Any:
    """Draw one value; numbers have four digits, so that tables show them exactly."""
    if axis.kind == "choice":
        return generator.choice(axis.values)
    low, high = axis.values
    share = generator.random()
    value = low + (high - low) * share if axis.kind == "uniform" else low * (high / low) ** share
    return float(f"{value:.4g}")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
