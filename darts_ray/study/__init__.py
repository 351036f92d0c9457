"""Many runs as one experiment: plan, stages, selection, statistics, report."""

from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.study import Study, load_study
from darts_ray.study.plan.estimate import StagePlan, StudyPlan, plan_study
from darts_ray.study.report.cell_drawing import draw_cell
from darts_ray.study.report.page import write_report
from darts_ray.study.run.driver import StudyResult, resume_study, run_study

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
