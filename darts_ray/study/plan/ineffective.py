"""Which options of a study do nothing, over all that it will run."""

from __future__ import annotations

from collections import Counter

from darts_ray.config import StudyConfig, ineffective_options
from darts_ray.study.plan.probe import distinct_trainings
from darts_ray.study.plan.settings import searches_of


def ineffective_in_study(config: StudyConfig) -> list[str]:
    """Return one line per option that was given and changes nothing, each once.

    An option of the searches counts when it has no effect in any setting; an axis also when it
    has none in some settings, as searches that differ in it alone are then the same search.

    Args:
        config: the study.
    """
    lines = ineffective_options(config)
    if config.search is not None:
        settings, axes = searches_of(config), config.search_axes()
        counts = Counter(line for _, search in settings for line in ineffective_options(search))
        for line, number in counts.items():
            option = line.partition(":")[0]
            if number == len(settings):
                lines.append(f"search.{line}")
            elif option in axes:
                lines.append(
                    f"search.{line}, which makes {number} of {len(settings)} settings repeat"
                    " others; leave the axis out, or make two studies"
                )
    for stage, training in distinct_trainings(config).items():
        lines += [f"{stage}.{line}" for line in ineffective_options(training)]
    return lines
