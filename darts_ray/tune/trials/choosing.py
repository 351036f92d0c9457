"""Lets a searcher choose settings: once each, for all seeds, so that a study has replications."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ray.tune.search import Searcher

from darts_ray.tune.search_space import get_dotted
from darts_ray.tune.trials.folder import TrialFolder
from darts_ray.tune.trials.planned import TrialSpec


@dataclass
class _Setting:
    """One setting at work.

    Attributes:
        running: names of the trials whose score is still to come.
        values: by dotted axis name; None before the searcher was asked.
        scores: of the trials that ended.
        is_foreign: whether the values come from the trials' folders, not from this searcher.
    """

    running: set[str] = field(default_factory=set)
    values: dict[str, Any] | None = None
    scores: list[float] = field(default_factory=list)
    is_foreign: bool = False


class SharedChoices:
    """Asks a searcher once per setting, and tells it the mean score over the setting's seeds.

    Seeded alike a searcher chooses alike, so after an interruption a new one is asked again for
    the settings that have begun, and those to come get what they would have got without it.

    Args:
        searcher: chooses values for the axes.
        axes: dotted names of what it chooses.
        specs: all trials; those with the same `setting` share what is chosen.
        folders: what the trials' folders say, by name; empty for a new stage.
    """

    def __init__(
        self,
        searcher: Searcher,
        axes: Sequence[str],
        specs: Sequence[TrialSpec],
        folders: Mapping[str, TrialFolder],
    ) -> None:
        self._searcher = searcher
        self._settings: dict[str, _Setting] = {}
        self._setting_of = {spec.name: spec.setting for spec in specs}
        for spec in specs:
            self._settings.setdefault(spec.setting, _Setting()).running.add(spec.name)
        for name in self._settings:
            members = [spec.name for spec in specs if spec.setting == name]
            self._replay(name, members, tuple(axes), folders)

    def values_for(self, spec: TrialSpec) -> dict[str, Any]:
        """Return the values of a trial's axes, by dotted name."""
        setting = self._settings[spec.setting]
        if setting.values is None:
            setting.values = dict(self._searcher.suggest(spec.setting) or {})
        return setting.values

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
            return
        if not setting.is_foreign:
            mean = {self._metric: fmean(setting.scores)} if setting.scores else None
            self._searcher.on_trial_complete(name, mean, error=mean is None)
        elif setting.scores and setting.values is not None:
            self._searcher.add_evaluated_point(setting.values, fmean(setting.scores))

    @property
    def _metric(self) -> str:
        return str(self._searcher.metric)

    def _replay(
        self,
        name: str,
        members: Sequence[str],
        axes: tuple[str, ...],
        folders: Mapping[str, TrialFolder],
    ) -> None:
        """Let the searcher choose again what the trials of a setting that has begun were given."""
        setting = self._settings[name]
        given = {}
        for trial in members:
            folder = folders.get(trial)
            if folder is not None and folder.config is not None:
                given[trial] = {axis: get_dotted(folder.config, axis) for axis in axes}
        if not given:
            return
        setting.values = next(iter(given.values()))
        if self._searcher.suggest(name) != setting.values:
            # why: results arrive in another order than before, so choices may differ
            self._searcher.on_trial_complete(name, error=True)
            setting.is_foreign = True
        # why: an earlier version drew anew for every seed; such a trial stands alone
        setting.running -= {trial for trial in given if given[trial] != setting.values}
        for trial in given:
            if folders[trial].ended:
                self.tell(trial, folders[trial].history[-1])
