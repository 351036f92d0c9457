"""Many runs as one experiment: plan, stages, selection, statistics, report."""

from darts_ray.study.cell_drawing import draw_cell
from darts_ray.study.folder import StudyFolder
from darts_ray.study.plan import StagePlan, StudyPlan, plan_study
from darts_ray.study.report import write_report
from darts_ray.study.runner import StudyResult, resume_study, run_study
from darts_ray.study.store import Study, load_study

__all__ = [
    "StagePlan",
    "Study",
    "StudyFolder",
    "StudyPlan",
    "StudyResult",
    "draw_cell",
    "load_study",
    "plan_study",
    "resume_study",
    "run_study",
    "write_report",
]
