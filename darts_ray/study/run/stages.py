"""The stages of a study; each reads what the one before has left in the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from darts_ray.config import StudyConfig
from darts_ray.data import ImageData, TextData
from darts_ray.errors import StudyError
from darts_ray.study.files import entries
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.measure import Measure
from darts_ray.study.files.record import TRAINING_STAGES, Record
from darts_ray.study.files.study import (
    RECORD_FILE,
    REPORT_FILE,
    STUDY_FILE,
    TABLES,
    Study,
    read_alphas,
)
from darts_ray.study.plan.probe import num_parameters
from darts_ray.study.plan.settings import (
    retrain_trials,
    search_trials,
    select_trials,
    setting_text,
    settings_of,
)
from darts_ray.study.plan.truth import trajectories, with_true_accuracies
from darts_ray.study.report.model_card import write_model_card
from darts_ray.study.report.page import write_report
from darts_ray.study.run.exporting import export_network
from darts_ray.study.run.keeping import Keeper
from darts_ray.study.run.registering import registration_of
from darts_ray.study.run.tracked.results import study_metrics
from darts_ray.study.run.tracked.writing import (
    log_figures,
    log_true_accuracies,
    log_weights,
    settled,
)
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

if TYPE_CHECKING:  # only `tune` imports Ray
    from darts_ray.tune.scheduling.given import Searcher, TrialScheduler


class StageRunner:
    """Runs stages and keeps record and tables on disk up to date.

    Args:
        study: the study's files as they are; config with absolute paths.
        data: the opened data.
        tracker: where trials are tracked; None: nowhere.
        quiet: no live view.
        say: receives one plain line per event.
        scheduler: the object that the configuration speaks of, if it speaks of one.
        search_alg: likewise, for the searcher.
    """

    def __init__(
        self,
        study: Study,
        data: ImageData | TextData,
        *,
        tracker: StudyTracker | None,
        quiet: bool,
        say: Callable[[str], None],
        scheduler: TrialScheduler | None = None,
        search_alg: Searcher | None = None,
    ) -> None:
        self.config: StudyConfig = study.config
        self.folder: StudyFolder = study.folder
        self._kept = Keeper(study, say)
        self._data = data
        self._measure = Measure.of(study.config.data)
        self._tracker = tracker
        self._quiet = quiet
        self._say = say
        self._scheduler = scheduler
        self._search_alg = search_alg

    @property
    def record(self) -> Record:
        """Content of genotypes.json."""
        return self._kept.record

    @property
    def has_begun(self) -> bool:
        """Whether a stage has changed anything yet."""
        return self._kept.has_begun

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
            "benchmark": self._benchmark,
            "select": self._select,
            "retrain": self._retrain,
            "export": self._export,
            "report": self._report,
        }[stage]()
        if stage not in TRAINING_STAGES:
            self._kept.note_time(stage, time.monotonic() - started, finished=True)
        if self._tracker is not None:
            rows = self._kept.results.to_pandas()
            self._tracker.log_study(study_metrics(self.config, self.record, rows))

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
            self._kept.change(search=searches)
            if early := sum(item.status == "done" for item in outcomes) - len(searches):
                self._say(f"search: {early} were stopped before they had a cell; none counts")

        settings = tuple(setting.text for setting in settings_of(self.config))
        self._kept.change(settings=settings)
        self._train("search", SearchTrainable, trials, epochs, take)
        # why: also before a select stage, so that a study without any finished search ends here
        winner = entries.choose_winner(self.record.search, self._measure, selected=False)
        self._kept.finish("search", winner if self.config.select is None else None)
        self._draw()

    def _benchmark(self) -> None:
        self._need("search")
        datasets = self.config.benchmark_datasets
        self._kept.begin("benchmark", 0)
        table = self._kept.keep_table()
        self._kept.change(search=with_true_accuracies(self.record.search, datasets, table))
        rows = trajectories(self._kept.results, datasets, table)
        self._kept.write_rows("benchmark", rows)
        cells = len(entries.candidates(self.record.search))
        self._say(
            f"benchmark: {cells} cells and {len(rows)} epochs looked up in"
            f" {'NAS-Bench-201' if table is None else table.name} ({', '.join(datasets)})"
        )
        if self._tracker is not None:
            log_true_accuracies(self._tracker, rows)

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
            self._kept.change(search=scored)

        self._train("select", RetrainTrainable, trials, self.config.select.epochs, take)
        winner = entries.choose_winner(self.record.search, self._measure, selected=True)
        self._kept.finish("select", winner)

    def _retrain(self) -> None:
        section = self.config.retrain
        assert section is not None
        if section.genotype is not None:
            config = self.config.retrain_config(section.genotype, section.seeds[0])
            self._kept.begin("retrain", len(section.seeds))
            self._kept.set_winner(entries.given_winner(config.parsed_genotype()))
        else:
            self._need("search" if self.config.select is None else "select")
        cells = entries.cells_to_retrain(self.record, section.cells, self._measure)
        trials = retrain_trials(self.config, cells)
        if section.cells != "winner":
            self._say(f"retrain: {len(cells)} distinct cells")

        def take(outcomes: Sequence[TrialOutcome]) -> None:
            self._kept.change(retrain=entries.retrain_entries(outcomes))

        self._train("retrain", RetrainTrainable, trials, section.epochs, take)
        if self._tracker is not None:
            log_weights(self._tracker, self.folder, self.record)
        self._kept.finish("retrain", None)

    def _export(self) -> None:
        self._need("retrain")
        assert self.config.export is not None
        entry, reason = entries.choose_exported(self.record.retrained_winner, self._measure)
        self._kept.begin("export", 0)
        if self.record.export is None or self.record.export.trial != entry.trial:
            # why: a kill must not leave the weights of one network beside the graph of another
            self._kept.forget_export()
        registration = registration_of(self.config, self.record, entry)
        exported = export_network(
            self.folder, entry, self.config.export, self._data, self._tracker, registration
        )
        self._kept.change(export=replace(exported, reason=reason))
        self._kept.write()
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
            self._kept.change(export=exported)
        self._draw()  # here too, as a finished search may be asked for more figures
        self._kept.note_time("report", 0.0, finished=True)
        place = write_report(self.folder.uri)
        self._say(f"report: {place}")
        if self._tracker is not None:
            for name in (*TABLES, STUDY_FILE, RECORD_FILE, REPORT_FILE):
                if self.folder.has(name):
                    self._tracker.log_artifact(None, name, self.folder.read_bytes(name))

    def _draw(self) -> None:
        if self._tracker is not None:
            alphas = read_alphas(self.folder)
            log_figures(self._tracker, self.config, self.record, alphas)

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
        self._kept.begin(stage, len(trials))
        view = LiveView(stage, len(trials), epochs, quiet=self._quiet, on_message=self._say)
        tracked = (
            []
            if self._tracker is None
            else [MLflowStudyCallback(tracker=self._tracker, stage=stage)]
        )
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
                scheduler=self._scheduler,
                search_alg=self._search_alg,
            )
        except KeyboardInterrupt:
            outcomes = read_outcomes(stage, trials, self.folder.uri)
            self._kept.save(stage, outcomes, time.monotonic() - started)
            raise
        take(outcomes)
        self._kept.save(stage, outcomes, time.monotonic() - started)
        failed = sum(outcome.status == "failed" for outcome in outcomes)
        lost = f", {failed} failed" if failed else ""
        self._say(f"{stage}: {len(trials) - failed} of {len(trials)} trials finished{lost}")

    def _need(self, stage: str) -> None:
        if not self.record.has_finished(stage):
            raise StudyError(
                f"{self.folder}: the stage {stage} has to be finished first; run it with"
                f" `darts-ray resume {self.folder}`, or a whole study with `darts-ray study`."
            )
