"""Runs a study from its configuration or continues one from its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darts_ray.config import StudyConfig
from darts_ray.data import open_data
from darts_ray.errors import RUN_FAILED, ConfigError, DartsError, DataError
from darts_ray.space import Genotype
from darts_ray.study.files.exported import EXAMPLE_FILE
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import STAGES, TRAINING_STAGES, Record
from darts_ray.study.files.study import (
    REPORT_FILE,
    load_study,
    provenance_now,
    read_study_file,
    resolve_paths,
    write_study_file,
)
from darts_ray.study.plan.estimate import num_trials
from darts_ray.study.plan.ineffective import ineffective_in_study
from darts_ray.study.plan.probe import check_fits
from darts_ray.study.plan.settings import baseline_setting
from darts_ray.study.plan.truth import check_table, transfers
from darts_ray.study.report.summary import result_rows
from darts_ray.study.run.admission import admit
from darts_ray.study.run.changes import changed_config
from darts_ray.study.run.recovery import bring_up_to_date
from darts_ray.study.run.stages import StageRunner
from darts_ray.study.run.tracked.opening import identify, open_tracker, tracked
from darts_ray.study.run.tracked.writing import deliver_again
from darts_ray.tune import preflight, start_ray
from darts_ray.tune.scheduling.given import check_scheduling, with_objects

if TYPE_CHECKING:  # only `tune` imports Ray
    from darts_ray.tune.scheduling.given import Searcher, TrialScheduler


@dataclass(frozen=True)
class StudyResult:
    """What a study ends with.

    Attributes:
        folder: absolute path or URI of the study folder.
        rows: the final table, one row per setting: column title to text, in column order.
        winner: the cell that was (or would be) retrained; None before it is known.
        winner_reason: why this cell won.
        test_metric: `test_accuracy` (0..1) or `test_perplexity`.
        test_scores: retrain seed to test score of the winner; empty without a retrain stage.
        onnx: path or URI of best.onnx; None without an export stage.
        example: path or URI of example.png, a picture of the test set; None without one.
        verification: what the comparison with torch in onnxruntime found; None as `onnx`.
        failed: one record per failed trial: stage, trial, setting, seed, error.
        num_trials: all trials of the stages that have run.
        seconds: wall time per stage, summed over interruptions.
        report: path or URI of report.html; None when the report stage was not asked for.
        pending: stages of the configuration that are not done, in order.
    """

    folder: str
    rows: tuple[Mapping[str, str], ...]
    winner: Genotype | None
    winner_reason: str
    test_metric: str
    test_scores: Mapping[int, float]
    onnx: str | None
    example: str | None
    verification: Mapping[str, Any] | None
    failed: tuple[Mapping[str, Any], ...]
    num_trials: int
    seconds: Mapping[str, float]
    report: str | None
    pending: tuple[str, ...]


def run_study(
    config: StudyConfig,
    *,
    stages: Sequence[str] | None = None,
    resume: bool = False,
    quiet: bool = False,
    on_message: Callable[[str], None] | None = None,
    scheduler: TrialScheduler | None = None,
    search_alg: Searcher | None = None,
) -> StudyResult:
    """Run the stages that the configuration has, each from the files of the one before.

    A stage that is done is not repeated; trials of it that failed are tried again, and if that
    changes the winner the later stages follow. Stages that are named in `stages` and train
    nothing (benchmark, export, report) are always run. A call whose first stage is not the
    study's first continues the study in the folder, as with `resume`.

    Args:
        config: the study.
        stages: run only these of `search`, `benchmark`, `select`, `retrain`, `export`, `report`.
        resume: continue the study if the folder already holds it.
        quiet: no live view of the trials.
        on_message: receives one plain line per event.
        scheduler: any scheduler of Ray Tune or your own, for the search stage, instead of
            `tune.scheduler`. Metric and mode are the study's unless it has them. study.yaml notes
            its class only, so a resume needs one again, and goes on with what the first one knew.
        search_alg: any searcher, likewise, instead of `tune.searcher`.

    Raises:
        ConfigError: scheduler or searcher does not suit the study.
        StudyError: the folder holds another study, or this one while `resume` is false; or a
            stage was asked for whose input is missing.
        DartsError: what preflight, the data or the tracking server object to; nothing has been
            written then. Whatever its kind, its exit code is 1 once a stage has begun.
        KeyboardInterrupt: after the tables have been saved; `resume_study` continues.
    """
    say = on_message or _ignore
    config = with_objects(resolve_paths(config), scheduler, search_alg)
    folder = StudyFolder.of(config)
    wanted = _wanted_stages(config, stages)
    baseline_setting(config)  # a wrong name is an error before anything is started
    goes_on = resume or wanted[0] != _wanted_stages(config, None)[0]
    tracker = open_tracker(config, folder)
    admit(folder, config, goes_on)
    with ExitStack() as stack:
        # why: before anything that takes long, such as a Ray of its own
        stack.enter_context(folder.lock(wait=goes_on))
        # why: admitted again under the lock, as another driver may have come first
        before = admit(folder, config, goes_on)
        data = open_data(config.data)
        record = Record()
        if before is not None:
            known, _ = read_study_file(folder)
            record = bring_up_to_date(folder, known, config, say)
        pending = pending_stages(record, wanted, named=stages is not None)
        if "benchmark" in pending:
            check_table(config)
        for line in [*ineffective_in_study(config), *transfers(config)]:
            say(f"Warning: {line}.")
        for stage in wanted:
            if stage not in pending:
                say(f"{stage}: was done before")
        if set(pending) & set(TRAINING_STAGES):
            check_fits(config, data, pending)
            if "search" in pending:
                check_scheduling(config, scheduler, search_alg, needs_objects=True)
            stack.enter_context(start_ray(config.resources))
            trials = {stage: n for stage, n in num_trials(config).items() if stage in pending}
            preflight(config, folder.uri, trials, continues=before is not None)
        provenance = before or provenance_now(data.info.fingerprint)
        if provenance["data_fingerprint"] != data.info.fingerprint:
            raise DataError(
                f"{folder}: the data are not those that this study began with (fingerprint"
                f" {data.info.fingerprint}, then {provenance['data_fingerprint']}). Put the"
                " original data back, or begin a new study under another name."
            )
        is_lost = tracker is not None and identify(tracker, provenance)
        write_study_file(folder, config, provenance)
        stack.enter_context(tracked(tracker, config, provenance))
        runner = StageRunner(
            load_study(folder),
            data,
            tracker=tracker,
            quiet=quiet,
            say=say,
            scheduler=scheduler,
            search_alg=search_alg,
        )
        if tracker is not None and is_lost:
            deliver_again(tracker, load_study(folder))
        for stage in pending:
            try:
                runner.run(stage)
            except DartsError as error:
                if runner.has_begun:
                    error.exit_code = RUN_FAILED
                # why: the error that ends a study often only follows from a trial's
                for failure in runner.record.failed:
                    say(f"failed: {failure.stage} {failure.trial}: {failure.error}")
                raise
    return _result(folder, runner.record, config, reported="report" in wanted)


def resume_study(
    folder: str | Path,
    *,
    overrides: Iterable[str] = (),
    stages: Sequence[str] | None = None,
    quiet: bool = False,
    on_message: Callable[[str], None] | None = None,
    scheduler: TrialScheduler | None = None,
    search_alg: Searcher | None = None,
) -> StudyResult:
    """Continue the study in a folder, as its study.yaml describes it or with some changes.

    Resources, tracking, retries and checkpoints may change at any time, the export too (it is
    done again); seeds, settings and methods may be added. What trials were made with may not
    change once the stage has begun.

    Args:
        folder: path or URI.
        overrides: `a.b=c` texts that change the study's configuration, as of `load_config`.
        stages: as in `run_study`.
        quiet: as in `run_study`.
        on_message: as in `run_study`.
        scheduler: as in `run_study`; needed where the search stage of a study that was given one
            has not ended.
        search_alg: likewise.

    Raises:
        StudyError: the folder holds no study, or a change is refused; the message says why.
        ConfigError: an override is wrong.
        DartsError: as `run_study`.
    """
    place = StudyFolder(folder)
    config, _ = read_study_file(place)
    config = changed_config(config, overrides, place)
    return run_study(
        config,
        stages=stages,
        resume=True,
        quiet=quiet,
        on_message=on_message,
        scheduler=scheduler,
        search_alg=search_alg,
    )


def pending_stages(record: Record, wanted: Sequence[str], *, named: bool) -> list[str]:
    """Return which of the wanted stages have something to do.

    Args:
        record: content of genotypes.json.
        wanted: stages, in order.
        named: whether the user asked for these stages and not for whatever is missing.
    """
    pending: list[str] = []
    for stage in wanted:
        done = record.has_finished(stage)
        failed = any(entry.stage == stage for entry in record.failed)
        follows = bool(set(pending) & set(TRAINING_STAGES))
        again = stage == "report" or (named and stage in ("benchmark", "export"))
        if not done or failed or follows or again:
            pending.append(stage)
    return pending


def _wanted_stages(config: StudyConfig, stages: Sequence[str] | None) -> list[str]:
    """Return the stages to run: those that the configuration has, in order.

    Raises:
        ConfigError: a name is unknown.
    """
    unknown = set(stages or ()) - set(STAGES)
    if unknown:
        raise ConfigError(f"No stage is named {sorted(unknown)}; there are: {', '.join(STAGES)}.")
    chosen = [stage for stage in config.stages if stages is None or stage in stages]
    if not chosen:
        raise ConfigError(f"The configuration has no section for {', '.join(stages or ())}.")
    return chosen


def _result(
    folder: StudyFolder, record: Record, config: StudyConfig, *, reported: bool
) -> StudyResult:
    measure = Measure.of(config.data)
    winner, export = record.winner, record.export
    verification = None
    if export is not None:
        verification = {
            "largest difference": f"{export.max_difference:.1e}",
            "allowed": f"{export.tolerance:.0e}",
            "batch sizes": ", ".join(str(size) for size in export.batch_sizes),
        }
    return StudyResult(
        folder=folder.uri,
        rows=result_rows(record, measure, judges_each=config.judges_each),
        winner=None if winner is None else winner.genotype,
        winner_reason="" if winner is None else winner.reason,
        test_metric=measure.test,
        test_scores={
            entry.seed: entry.metrics[measure.test]
            for entry in record.retrained_winner
            if measure.test in entry.metrics
        },
        onnx=None if export is None else folder.child(export.file),
        example=folder.child(EXAMPLE_FILE) if folder.has(EXAMPLE_FILE) else None,
        verification=verification,
        failed=tuple(asdict(failure) for failure in record.failed),
        num_trials=sum(stage.num_trials for stage in record.stages.values()),
        seconds={name: stage.seconds for name, stage in record.stages.items()},
        report=folder.child(REPORT_FILE) if reported else None,
        pending=tuple(stage for stage in config.stages if not record.has_finished(stage)),
    )


def _ignore(_: str) -> None:
    """Receive a message that nobody wants."""
