"""Lets a searcher choose settings: once each, for all seeds, so that a study has replications."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ray.tune.search import Searcher

from darts_ray.errors import ConfigError
from darts_ray.tune.scheduling.search_space import get_dotted
from darts_ray.tune.trials.folder import TrialFolder
from darts_ray.tune.trials.planned import TrialSpec
from darts_ray.tune.trials.values import plain

BUDGET = "hyperband_info"
"""Key under which Tune's BOHB scheduler tells its searcher the epochs of a comparison."""

logger = logging.getLogger("darts_ray.tune")


@dataclass
class _Setting:
    """One setting at work.

    Attributes:
        running: names of the trials whose score is still to come.
        values: by dotted axis name; None before the searcher was asked.
        scores: of the trials that ended.
        is_foreign: whether the values come from the trials' folders, not from this searcher.
        paused: names of the running trials that the scheduler has paused.
        heard: results by epoch and trial, until all running trials have reached the epoch.
        passed_on: newest epoch of which the searcher has heard.
    """

    running: set[str] = field(default_factory=set)
    values: dict[str, Any] | None = None
    scores: list[float] = field(default_factory=list)
    is_foreign: bool = False
    paused: set[str] = field(default_factory=set)
    heard: dict[int, dict[str, Mapping[str, Any]]] = field(default_factory=dict)
    passed_on: int = 0


class SharedChoices:
    """Asks a searcher once per setting, and tells it the mean score over the setting's seeds.

    Of a setting that is at work it hears, epoch by epoch, the mean over the seeds that run.

    After an interruption a searcher that is seeded alike is asked again for the settings that
    have begun (`replays`), and those to come get what they would have got without it; or this
    object itself has been kept, and `take_up` tells it what it has missed.

    Args:
        searcher: chooses values for the axes.
        axes: dotted names of what it chooses.
        specs: all trials; those with the same `setting` share what is chosen.
        folders: what the trials' folders say, by name; empty for a new stage.
        metric: what the searcher looks at; default: what it says itself.
        replays: whether a searcher that is seeded alike chooses alike.

    Attributes:
        is_exhausted: whether the searcher has said that it has nothing more to suggest.
    """

    def __init__(
        self,
        searcher: Searcher,
        axes: Sequence[str],
        specs: Sequence[TrialSpec],
        folders: Mapping[str, TrialFolder],
        *,
        metric: str | None = None,
        replays: bool = True,
    ) -> None:
        self.is_exhausted = False
        self._searcher = searcher
        self._axes = tuple(axes)
        self._metric = metric or str(searcher.metric)
        self._settings: dict[str, _Setting] = {}
        self._setting_of: dict[str, str] = {}
        self.take_up(specs, folders, replays=replays)

    def take_up(
        self,
        specs: Sequence[TrialSpec],
        folders: Mapping[str, TrialFolder],
        *,
        replays: bool = False,
    ) -> None:
        """Learn of trials that are new to this object, and of what has happened to the others.

        Args:
            specs: all trials.
            folders: what the trials' folders say, by name.
            replays: as for the constructor.
        """
        new = [spec for spec in specs if spec.name not in self._setting_of]
        known = set(self._settings)
        for spec in new:
            self._setting_of[spec.name] = spec.setting
            setting = self._settings.setdefault(spec.setting, _Setting())
            if spec.setting not in known or setting.running:
                # why: the searcher has done with a setting that has ended
                setting.running.add(spec.name)
        for name in dict.fromkeys(spec.setting for spec in specs):
            members = [spec.name for spec in specs if spec.setting == name]
            if self._settings[name].values is None:
                self._follow(name, members, folders, replays)
        for spec in specs:
            folder = folders.get(spec.name, TrialFolder())
            if folder.ended:
                self.tell(spec.name, folder.history[-1])

    def values_for(self, spec: TrialSpec) -> dict[str, Any] | None:
        """Return the values of a trial's axes, by dotted name; None: the searcher has none now.

        Raises:
            ConfigError: the searcher chooses other names than the study's axes.
        """
        setting = self._settings[spec.setting]
        if setting.values is None:
            setting.values = self._ask(spec.setting)
        return setting.values

    def hear(self, trial: str, result: Mapping[str, Any]) -> None:
        """Take note of a trial's epoch; the searcher hears of it with the setting's last seed."""
        name = self._setting_of[trial]
        setting, epoch = self._settings[name], int(result["epoch"])
        # why: a trial that broke repeats epochs
        if trial in setting.running and epoch > setting.passed_on and not setting.is_foreign:
            setting.heard.setdefault(epoch, {})[trial] = dict(result)
            self._pass_on(name)

    def pause(self, trial: str) -> None:
        """Take note that the scheduler lets a trial wait."""
        name = self._setting_of[trial]
        setting = self._settings[name]
        setting.paused.add(trial)
        if setting.running <= setting.paused and hasattr(self._searcher, "on_pause"):
            self._searcher.on_pause(name)

    def unpause(self, trial: str) -> None:
        """Take note that a trial goes on."""
        name = self._setting_of[trial]
        setting = self._settings[name]
        if setting.running <= setting.paused and hasattr(self._searcher, "on_unpause"):
            self._searcher.on_unpause(name)
        setting.paused.discard(trial)

    def tell(self, trial: str, result: Mapping[str, Any] | None) -> None:
        """Take note of how a trial ended; the searcher hears of it with the setting's last one.

        Args:
            trial: its name.
            result: its last metrics; None when it failed.
        """
        name = self._setting_of[trial]
        setting = self._settings[name]
        if trial not in setting.running:
            return
        setting.running.remove(trial)
        score = math.nan if result is None else float(result.get(self._metric, math.nan))
        if math.isfinite(score):
            setting.scores.append(score)
        if setting.running:
            self._pass_on(name)
            return
        setting.heard.clear()
        if not setting.is_foreign:
            mean = {self._metric: fmean(setting.scores)} if setting.scores else None
            self._searcher.on_trial_complete(name, mean, error=mean is None)
        elif setting.scores and setting.values is not None:
            try:
                self._searcher.add_evaluated_point(setting.values, fmean(setting.scores))
            except NotImplementedError:
                logger.warning(
                    "%s takes no results of settings that it did not choose; it learns nothing"
                    " from %s",
                    type(self._searcher).__name__,
                    setting.values,
                )

    def _pass_on(self, name: str) -> None:
        """Tell the searcher of the epochs that all running trials of a setting have reached."""
        setting = self._settings[name]
        for epoch in sorted(setting.heard):
            results = setting.heard[epoch]
            if not setting.running <= set(results):
                return
            del setting.heard[epoch]
            setting.passed_on = epoch
            scores = [float(result.get(self._metric, math.nan)) for result in results.values()]
            scores = [score for score in scores if math.isfinite(score)]
            if not scores:
                continue
            *_, last = results.values()
            budgets = [result[BUDGET] for result in results.values() if result.get(BUDGET)]
            told = {**last, self._metric: fmean(scores)}
            # why: a seed may wait for a comparison at an epoch at which another one goes on
            self._searcher.on_trial_result(name, told | ({BUDGET: budgets[-1]} if budgets else {}))

    def _ask(self, name: str) -> dict[str, Any] | None:
        suggestion: Any = self._searcher.suggest(name)  # Ray's type lacks `FINISHED`
        if suggestion == Searcher.FINISHED:
            self.is_exhausted = True
            return None
        if suggestion is None:
            return None
        values: dict[str, Any] = plain(_flat(suggestion))
        if set(values) != set(self._axes):
            raise ConfigError(
                f"tune.searcher: {type(self._searcher).__name__} chose values for"
                f" {', '.join(values)}; the axes of the search section are"
                f" {', '.join(self._axes)}. Leave its own search space out."
            )
        return {axis: values[axis] for axis in self._axes}

    def _follow(
        self,
        name: str,
        members: Sequence[str],
        folders: Mapping[str, TrialFolder],
        replays: bool,
    ) -> None:
        """Give a setting that has begun the values that its trials were given."""
        setting = self._settings[name]
        given = {}
        for trial in members:
            folder = folders.get(trial)
            if folder is not None and folder.config is not None:
                given[trial] = {axis: get_dotted(folder.config, axis) for axis in self._axes}
        if not given:
            return
        setting.values = next(iter(given.values()))
        if not replays:
            setting.is_foreign = True
        elif self._ask(name) != setting.values:
            # why: results arrive in another order than before, so choices may differ
            self._searcher.on_trial_complete(name, error=True)
            setting.is_foreign = True
        # why: an earlier version drew anew for every seed; such a trial stands alone
        setting.running -= {trial for trial in given if given[trial] != setting.values}
        # why now: the searcher's next choice may depend on it
        for trial in given:
            if folders[trial].ended:
                self.tell(trial, folders[trial].history[-1])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted name; searchers nest them, or part them by slashes."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}".replace("/", ".")
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
