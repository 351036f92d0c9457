"""What several searches say about a method, and when they are too few to say it.

The unit of replication is the independent search: a method run with another seed. Nothing here
knows a study's files; every function takes numbers and returns numbers with their uncertainty.
"""

from darts_ray.study.report.statistics.comparison import (
    MIN_FOR_TEST,
    Comparison,
    RelativeImprovement,
    compare,
    relative_improvement,
)
from darts_ray.study.report.statistics.components import VarianceComponents, variance_components
from darts_ray.study.report.statistics.description import (
    CONFIDENCE,
    MIN_FOR_INTERVAL,
    Share,
    Summary,
    share,
    summarise,
)
from darts_ray.study.report.statistics.power import SeedsNeeded, seeds_needed
from darts_ray.study.report.statistics.ranks import (
    Correlation,
    RankTest,
    rank_correlation,
    rank_test,
)

__all__ = [
    "CONFIDENCE",
    "MIN_FOR_INTERVAL",
    "MIN_FOR_TEST",
    "Comparison",
    "Correlation",
    "RankTest",
    "RelativeImprovement",
    "SeedsNeeded",
    "Share",
    "Summary",
    "VarianceComponents",
    "compare",
    "rank_correlation",
    "rank_test",
    "relative_improvement",
    "seeds_needed",
    "share",
    "summarise",
    "variance_components",
]
