"""The settings of several studies, compared as if they were those of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from darts_ray.errors import ConfigError, StudyError
from darts_ray.study.files.entries import scores_of_searches
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import NO_AXIS, Record
from darts_ray.study.files.study import Study, load_study
from darts_ray.study.plan.settings import baseline_setting
from darts_ray.study.report.comparing.protocol import budget, differences, protocol
from darts_ray.study.report.robustness import Robustness, assess
from darts_ray.study.report.statistics import Summary, summarise

TEST = (
    "paired sign-flip permutation test of the mean over the seeds that both settings have,"
    " two-sided, with Holm's correction over all pairs"
)


@dataclass(frozen=True)
class RetrainedWinner:
    """The test score of one study's winner.

    Attributes:
        study: its label.
        setting: of the search that derived the cell.
        score: on the test set, over the winner's retrainings; None without any.
    """

    study: str
    setting: str
    score: Summary | None


@dataclass(frozen=True)
class StudyComparison:
    """Several studies side by side.

    Attributes:
        studies: label to path or URI.
        measure: what they are judged by.
        robustness: the statistics over all settings; a setting is named by its study's label,
            and by its axes where the study has several.
        winners: one row per study that has retrained a cell.
        num_planned: searches by setting that were planned.
        budget: of the studies, in words.
        differences: in data or protocol, one per line; only where they were admitted.
    """

    studies: dict[str, str]
    measure: Measure
    robustness: Robustness
    winners: tuple[RetrainedWinner, ...]
    num_planned: dict[str, int]
    budget: str
    differences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, fit for JSON."""
        robustness = asdict(self.robustness)
        for name in ("correlations", "published"):  # of one study's own report
            robustness.pop(name, None)
        return {
            "studies": self.studies,
            "measured": self.robustness.measured,
            "more_is_better": self.measure.more_is_better,
            "test": TEST,
            "budget": self.budget,
            "differences": list(self.differences),
            "num_planned": self.num_planned,
            **{name: robustness[name] for name in ("settings", "comparisons", "ranks", "notes")},
            "seeds_needed": [
                {"first": first, "second": second, **asdict(item)}
                for first, second, item in self.robustness.seeds
            ],
            "winners": [asdict(winner) for winner in self.winners],
        }


def compare_studies(folders: Sequence[str | Path], *, anyway: bool = False) -> StudyComparison:
    """Compare the settings of several studies, paired by seed.

    Args:
        folders: of two studies or more, paths or URIs.
        anyway: compare although data, splits or budgets differ; what differs is in the result.

    Raises:
        ConfigError: fewer than two studies, the same one twice, or studies that are judged by
            different measures.
        StudyError: a folder holds no study, one without a finished search, or studies whose data
            or protocols differ; the message names every difference.
    """
    studies = [load_study(folder) for folder in folders]
    places = [study.folder.uri for study in studies]
    if len(studies) < 2 or len(set(places)) < len(places):
        raise ConfigError("compare: name two studies or more, each once.")
    for study in studies:
        if not study.record.search:
            raise StudyError(
                f"{study.folder}: has no finished search, so there is nothing to compare. Look at"
                f" it with `darts-ray status {study.folder}`."
            )
    measures = {Measure.of(study.config.data) for study in studies}
    if len(measures) > 1:
        raise ConfigError("compare: accuracies and perplexities cannot be compared.")
    (measure,) = measures
    labels = _labels(places)
    by_label = dict(zip(labels, studies, strict=True))
    found = differences({label: protocol(study) for label, study in by_label.items()})
    if found and not anyway:
        listed = "".join(f"\n  {line}" for line in found)
        raise StudyError(
            f"compare: the studies differ in data or protocol, so a difference of their scores"
            f" says nothing about their methods:{listed}\nCompare studies of one protocol, or add"
            " --anyway; the result says then what differs."
        )
    record, results = _united(by_label)
    baselines = [
        _name(label, setting, study)
        for label, study in by_label.items()
        if (setting := baseline_setting(study.config)) is not None
    ]
    robustness = assess(
        record,
        results,
        measure,
        None,
        judges_each=all(study.config.judges_each for study in studies),
        tested=_tested(by_label, measure),
        # why: with several, nobody has said which one the others are to be related to
        baseline=baselines[0] if len(baselines) == 1 else None,
        stops_early=any(study.config.tune.scheduler == "asha" for study in studies),
    )
    if found:
        warned = tuple(
            replace(item, verdict="no verdict: the protocols differ")
            for item in robustness.comparisons
        )
        robustness = replace(robustness, comparisons=warned)
    planned = {
        _name(label, setting, study): len(study.config.seeds)
        for label, study in by_label.items()
        for setting in dict.fromkeys(entry.setting for entry in study.record.search)
    }
    return StudyComparison(
        studies=dict(zip(labels, places, strict=True)),
        measure=measure,
        robustness=robustness,
        winners=tuple(_winners(by_label, measure)),
        num_planned=planned,
        budget=budget(studies),
        differences=tuple(found),
    )


def _labels(places: Sequence[str]) -> list[str]:
    """Return the shortest ends of paths that tell studies apart."""
    paths = [place.partition("?")[0].rstrip("/").split("/") for place in places]
    for length in range(1, max(map(len, paths)) + 1):
        labels = ["/".join(path[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return list(places)


def _name(label: str, setting: str, study: Study) -> str:
    several = len({entry.setting for entry in study.record.search}) > 1
    return f"{label}: {setting}" if several and setting != NO_AXIS else label


def _united(studies: dict[str, Study]) -> tuple[Record, pd.DataFrame]:
    """Return one record and table of all searches, under names that no two studies share."""
    entries, tables = [], []
    for label, study in studies.items():
        entries += [
            replace(
                entry,
                trial=f"{label}/{entry.trial}",
                setting=_name(label, entry.setting, study),
            )
            for entry in study.record.search
        ]
        rows = study.results()
        if len(rows):
            tables.append(rows.assign(trial=[f"{label}/{trial}" for trial in rows["trial"]]))
    record = Record(search=tuple(entries))
    return record, pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _tested(studies: dict[str, Study], measure: Measure) -> dict[str, tuple[float, ...]]:
    """Return the test scores of each search's own cell, each study's retrainings for itself."""
    return {
        f"{label}/{trial}": scores
        for label, study in studies.items()
        for trial, scores in scores_of_searches(
            study.record.search, study.record.retrain, measure.test
        ).items()
    }


def _winners(studies: dict[str, Study], measure: Measure) -> list[RetrainedWinner]:
    rows = []
    for label, study in studies.items():
        record = study.record
        retrained = record.retrained_winner
        if record.winner is None or not retrained:
            continue
        scores = [e.metrics[measure.test] for e in retrained if measure.test in e.metrics]
        rows.append(RetrainedWinner(label, record.winner.setting, summarise(scores)))
    return rows
