"""Many runs as one experiment: plan, stages, selection, statistics, report."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from darts_ray.study.files.folder import StudyFolder
    from darts_ray.study.files.study import Study, load_study
    from darts_ray.study.plan.estimate import StagePlan, StudyPlan, plan_study
    from darts_ray.study.report.cell_drawing import draw_cell
    from darts_ray.study.report.comparing.studies import StudyComparison, compare_studies
    from darts_ray.study.report.page import write_report
    from darts_ray.study.run.driver import StudyResult, resume_study, run_study
    from darts_ray.study.status.listing import StudyLine, list_studies
    from darts_ray.study.status.reading import StudyStatus, study_status

__all__ = [
    "StagePlan",
    "Study",
    "StudyComparison",
    "StudyFolder",
    "StudyLine",
    "StudyPlan",
    "StudyResult",
    "StudyStatus",
    "compare_studies",
    "draw_cell",
    "list_studies",
    "load_study",
    "plan_study",
    "resume_study",
    "run_study",
    "study_status",
    "write_report",
]

_MODULES = {
    "StudyFolder": "files.folder",
    "Study": "files.study",
    "load_study": "files.study",
    "StagePlan": "plan.estimate",
    "StudyPlan": "plan.estimate",
    "plan_study": "plan.estimate",
    "StudyComparison": "report.comparing.studies",
    "compare_studies": "report.comparing.studies",
    "draw_cell": "report.cell_drawing",
    "write_report": "report.page",
    "StudyResult": "run.driver",
    "resume_study": "run.driver",
    "run_study": "run.driver",
    "StudyLine": "status.listing",
    "list_studies": "status.listing",
    "StudyStatus": "status.reading",
    "study_status": "status.reading",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: who only reads a study has no use for Ray or torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
