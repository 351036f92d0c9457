"""What a study's searches say about its settings, in one line."""

from __future__ import annotations

from statistics import fmean

from darts_ray.config import StudyConfig
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import Record
from darts_ray.study.report.robustness import scores_by_setting, split_stopped
from darts_ray.study.report.statistics import compare


def verdict(config: StudyConfig, record: Record) -> str | None:
    """Return the verdict over a study's settings, from its record alone.

    The tests are those of the report: paired by seed, with Holm's correction over all pairs;
    intervals are left out, as they would take most of the time.

    Returns:
        None for fewer than two settings with scores, or before all searches have ended.
    """
    measure = Measure.of(config.data)
    scores = scores_by_setting(record, measure, judges_each=config.judges_each)
    scores = {setting: by_seed for setting, by_seed in scores.items() if by_seed}
    if len(scores) < 2 or not record.has_finished("search"):
        return None
    if split_stopped(record, config.tune.scheduler == "asha")[1]:
        return "no verdict: searches were stopped early"
    best = max(scores, key=lambda setting: measure.merit(fmean(scores[setting].values())))
    pairs = [
        pair
        for pair in compare(scores, more_is_better=measure.more_is_better, with_intervals=False)
        if best in (pair.first, pair.second)
    ]
    p_values = [pair.adjusted_p for pair in pairs if pair.adjusted_p is not None]
    if not p_values:
        return f"{best} leads; too few seeds for a test"
    shown = sum(p < 0.05 for p in p_values)
    if not shown:
        return f"{best} leads; no difference shown"
    if shown < len(pairs):
        return f"{best} leads; it differs from {shown} of {len(pairs)} others"
    return f"{best} is best (p = {max(p_values):.2g})"
