"""The stages of a study; each reads what the one before has left in the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from darts_ray.config import StudyConfig
from darts_ray.data import ImageData, TextData
from darts_ray.errors import StudyError
from darts_ray.study.files import entries
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import TRAINING_STAGES, Record, Winner
from darts_ray.study.files.study import (
    ALPHAS_FILE,
    RECORD_FILE,
    REPORT_FILE,
    RESULTS_FILE,
    STUDY_FILE,
    Study,
    read_alphas,
    write_record,
)
from darts_ray.study.files.tables import alphas_table, replace_stage, results_table
from darts_ray.study.plan.probe import num_parameters
from darts_ray.study.plan.settings import (
    retrain_trials,
    search_trials,
    select_trials,
    setting_text,
    settings_of,
)
from darts_ray.study.report.model_card import write_model_card
from darts_ray.study.report.page import write_report
from darts_ray.study.run.exporting import EXPORTED_FILES, export_network
from darts_ray.study.run.registering import registration_of
from darts_ray.study.run.tracked import log_figures, log_weights, settled
from darts_ray.tracking import StudyTracker
from darts_ray.tune import (
    LiveView,
    MLflowStudyCallback,
    RetrainTrainable,
    SearchTrainable,
    TrialOutcome,
    TrialSpec,
    run_trials,
)
from darts_ray.tune.reading import read_outcomes


class StageRunner:
    """Runs stages and keeps record and tables on disk up to date.

    Args:
        study: the study's files as they are; config with absolute paths.
        data: the opened data.
        tracker: where trials are tracked; None: nowhere.
        quiet: no live view.
        say: receives one plain line per event.

    Attributes:
        record: content of genotypes.json.
        has_begun: whether a stage has changed anything yet.
    """

    def __init__(
        self,
        study: Study,
        data: ImageData | TextData,
        *,
        tracker: StudyTracker | None,
        quiet: bool,
        say: Callable[[str], None],
    ) -> None:
        self.config: StudyConfig = study.config
        self.folder: StudyFolder = study.folder
        self.record: Record = study.record
        self.has_begun = False
        self._results: pa.Table = study.results
        self._data = data
        self._measure = Measure.of(study.config.data)
        self._tracker = tracker
        self._quiet = quiet
        self._say = say

    def run(self, stage: str) -> None:
        """Run one stage.

        Raises:
            StudyError: the stage before it has not been finished.
            TrialsFailedError: so many trials failed that there is nothing to go on with.
            KeyboardInterrupt: after record and tables have been written.
        """
        if self._tracker is not None:
            self._tracker.start_stage(stage)
        self._say(f"{stage}: starts")
        started = time.monotonic()
        {
            "search": self._search,
            "select": self._select,
            "retrain": self._retrain,
            "export": self._export,
            "report": self._report,
        }[stage]()
        if stage not in TRAINING_STAGES:
            self._note_time(stage, time.monotonic() - started, finished=True)
            write_record(self.folder, self.record)

    def _search(self) -> None:
        trials = search_trials(self.config, self.record.aliases)
        epochs = max(int(trial.config["epochs"]) for trial in trials)
        info = self._data.info

        def take(outcomes: Sequence[TrialOutcome]) -> None:
            searches = entries.search_entries(
                outcomes,
                self._measure,
                lambda cell: num_parameters(self.config, cell, info),
                before=self.record.search,
            )
            self.record = replace(self.record, search=searches)

        settings = tuple(setting.text for setting in settings_of(self.config))
        self.record = replace(self.record, settings=settings)
        self._train("search", SearchTrainable, trials, epochs, take)
        # why: also before a select stage, so that a study without any finished search ends here
        winner = entries.choose_winner(self.record.search, self._measure, selected=False)
        self._finish("search", winner if self.config.select is None else None)
        if self._tracker is not None:
            log_figures(self._tracker, self.record, read_alphas(self.folder))

    def _select(self) -> None:
        self._need("search")
        assert self.config.select is not None
        distinct = entries.candidates(self.record.search)
        same = len(self.record.search) - len(distinct)
        agree = f" ({same} searches found a cell that another found too)" if same else ""
        self._say(f"select: {len(distinct)} distinct cells{agree}")
        trials = select_trials(self.config, distinct)

        def take(outcomes: Sequence[TrialOutcome]) -> None:
            scored = entries.with_select_scores(self.record.search, outcomes, self._measure)
            self.record = replace(self.record, search=scored)

        self._train("select", RetrainTrainable, trials, self.config.select.epochs, take)
        winner = entries.choose_winner(self.record.search, self._measure, selected=True)
        self._finish("select", winner)

    def _retrain(self) -> None:
        section = self.config.retrain
        assert section is not None
        if section.genotype is not None:
            config = self.config.retrain_config(section.genotype, section.seeds[0])
            self._begin("retrain", len(section.seeds))
            self._set_winner(entries.given_winner(config.parsed_genotype()))
        else:
            self._need("search" if self.config.select is None else "select")
        winner = self.record.winner
        assert winner is not None
        trials = retrain_trials(self.config, winner.genotype, winner.setting)

        def take(outcomes: Sequence[TrialOutcome]) -> None:
            self.record = replace(self.record, retrain=entries.retrain_entries(outcomes))

        self._train("retrain", RetrainTrainable, trials, section.epochs, take)
        if self._tracker is not None:
            log_weights(self._tracker, self.folder, self.record)
        self._finish("retrain", None)

    def _export(self) -> None:
        self._need("retrain")
        assert self.config.export is not None
        entry, reason = entries.choose_exported(self.record.retrain, self._measure)
        self._begin("export", 0)
        if self.record.export is None or self.record.export.trial != entry.trial:
            # why: a kill must not leave the weights of one network beside the graph of another
            self._forget_export()
        registration = registration_of(self.config, self.record, entry)
        exported = export_network(
            self.folder, entry, self.config.export, self._data, self._tracker, registration
        )
        self.record = replace(self.record, export=replace(exported, reason=reason))
        write_record(self.folder, self.record)
        write_model_card(self.folder)
        self._say(
            f"export: {exported.file} agrees with torch within {exported.max_difference:.1e}"
        )
        for what, file in (("int8", exported.int8), ("torch.export", exported.program)):
            if file is not None and file.error is not None:
                self._say(f"export: no {what} file was written: {file.error}")

    def _report(self) -> None:
        if self._tracker is not None and self.record.export is not None:
            exported = settled(self._tracker, self.folder, self.config, self.record.export)
            self.record = replace(self.record, export=exported)
        self._note_time("report", 0.0, finished=True)
        write_record(self.folder, self.record)
        place = write_report(self.folder.uri)
        self._say(f"report: {place}")
        if self._tracker is not None:
            for name in (STUDY_FILE, RECORD_FILE, RESULTS_FILE, ALPHAS_FILE, REPORT_FILE):
                if self.folder.has(name):
                    self._tracker.log_artifact(None, name, self.folder.read_bytes(name))

    def _train(
        self,
        stage: str,
        trainable: type[SearchTrainable] | type[RetrainTrainable],
        trials: Sequence[TrialSpec],
        epochs: int,
        take: Callable[[Sequence[TrialOutcome]], None],
    ) -> None:
        """Run a stage's trials, let `take` put them into the record, and save everything."""
        resume = self.folder.has(stage)
        self._begin(stage, len(trials))
        view = LiveView(stage, len(trials), epochs, quiet=self._quiet, on_message=self._say)
        tracked = [] if self._tracker is None else [MLflowStudyCallback(self._tracker, stage)]
        started = time.monotonic()
        try:
            outcomes = run_trials(
                stage,
                trainable,
                trials,
                self.config,
                self.folder.uri,
                resume=resume,
                callbacks=[view, *tracked],
                setting_text=setting_text,
            )
        except KeyboardInterrupt:
            outcomes = read_outcomes(stage, trials, self.folder.uri)
            self._save(stage, outcomes, time.monotonic() - started)
            raise
        take(outcomes)
        self._save(stage, outcomes, time.monotonic() - started)
        failed = sum(outcome.status == "failed" for outcome in outcomes)
        lost = f", {failed} failed" if failed else ""
        self._say(f"{stage}: {len(trials) - failed} of {len(trials)} trials finished{lost}")

    def _save(self, stage: str, outcomes: Sequence[TrialOutcome], seconds: float) -> None:
        """Write tables and record; the stage does not count as done yet."""
        self._results = replace_stage(self._results, results_table(stage, outcomes), stage)
        self.folder.write_table(RESULTS_FILE, self._results)
        if stage == "search":
            self.folder.write_table(ALPHAS_FILE, alphas_table(outcomes))
        others = (entry for entry in self.record.failed if entry.stage != stage)
        failed = (*others, *entries.failures(stage, outcomes))
        self.record = replace(self.record, failed=failed)
        self._note_time(stage, seconds, finished=False)
        write_record(self.folder, self.record)

    def _begin(self, stage: str, num_trials: int) -> None:
        """Mark a stage and all later ones as not done, in one write, before anything changes."""
        self.has_begun = True
        self.record = self.record.beginning(stage, num_trials)
        write_record(self.folder, self.record)

    def _finish(self, stage: str, winner: Winner | None) -> None:
        """Count a stage as done, now that everything that follows from its trials is known."""
        is_new = winner is not None and winner != self.record.winner
        if winner is not None:
            self._set_winner(winner)
        self._note_time(stage, 0.0, finished=True)
        write_record(self.folder, self.record)
        if is_new and winner is not None:
            self._say(f"winner: {winner.reason}")

    def _set_winner(self, winner: Winner) -> None:
        """Replace the winner in the record; files of another cell go before it is written."""
        before, self.record = self.record.export, self.record.with_winner(winner)
        if self.record.export is None and before is not None:
            self._forget_export()

    def _forget_export(self) -> None:
        """Remove the exported files; a record that names none is what the next write says."""
        self.record = replace(self.record, export=None)
        for name in EXPORTED_FILES:
            self.folder.delete(name)

    def _note_time(self, stage: str, seconds: float, *, finished: bool) -> None:
        before = self.record.stages[stage].seconds if stage in self.record.stages else 0.0
        self.record = self.record.with_stage(
            stage, seconds=round(before + seconds, 3), finished=finished
        )

    def _need(self, stage: str) -> None:
        if not self.record.has_finished(stage):
            raise StudyError(
                f"{self.folder}: the stage {stage} has to be finished first; run it with"
                f" `darts-ray resume {self.folder}`, or a whole study with `darts-ray study`."
            )
