"""Runs a study from its configuration or continues one from its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_ray.config import StudyConfig
from darts_ray.space import Genotype

STAGES = ("search", "select", "retrain", "export", "report")


@dataclass(frozen=True)
class StudyResult:
    """What a study ends with.

    Attributes:
        folder: absolute path or URI of the study folder.
        rows: the final table, one row per setting: column title to text, in column order.
        winner: the cell that was (or would be) retrained; None before it is known.
        winner_reason: why this cell won.
        test_metric: `test_accuracy` (0..1) or `test_perplexity`.
        test_scores: retrain seed to test score; empty without a retrain stage.
        onnx: path or URI of best.onnx; None without an export stage.
        verification: what the comparison with torch in onnxruntime found; None as `onnx`.
        failed: one record per failed trial: stage, trial, setting, seed, error.
        num_trials: all trials of the stages that have run.
        seconds: wall time per stage, summed over interruptions.
        report: path or URI of report.html; None when the report stage was not asked for.
    """

    folder: str
    rows: tuple[Mapping[str, str], ...]
    winner: Genotype | None
    winner_reason: str
    test_metric: str
    test_scores: Mapping[int, float]
    onnx: str | None
    verification: Mapping[str, Any] | None
    failed: tuple[Mapping[str, Any], ...]
    num_trials: int
    seconds: Mapping[str, float]
    report: str | None


def run_study(
    config: StudyConfig,
    *,
    stages: Sequence[str] | None = None,
    resume: bool = False,
    quiet: bool = False,
    on_message: Callable[[str], None] | None = None,
) -> StudyResult:
    """Run the stages that the configuration has, each from the files of the one before.

    Args:
        config: the study.
        stages: run only these of `search`, `select`, `retrain`, `export`, `report`.
        resume: continue the study that the folder already holds; stages already done are not
            repeated.
        quiet: no live view of the trials.
        on_message: receives one plain line per event.

    Raises:
        StudyError: the folder holds another study, or this one while `resume` is false; or a
            stage was asked for whose input is missing.
        DartsError: what preflight, the data or the tracking server object to; nothing has been
            written then.
        KeyboardInterrupt: after the tables have been saved; `resume_study` continues.
    """
    raise NotImplementedError


def resume_study(
    folder: str,
    *,
    stages: Sequence[str] | None = None,
    quiet: bool = False,
    on_message: Callable[[str], None] | None = None,
) -> StudyResult:
    """Continue the study in a folder, as its study.yaml describes it."""
    raise NotImplementedError
