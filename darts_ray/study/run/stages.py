"""The stages of a study; each reads what the one before has left in the record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from darts_ray.config import StudyConfig
from darts_ray.data import ImageData, TextData
from darts_ray.errors import StudyError
from darts_ray.space import Genotype
from darts_ray.study.files import record as records
from darts_ray.study.files.folder import StudyFolder
from darts_ray.study.files.measure import Measure
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
from darts_ray.study.files.tables import alphas_of, alphas_table, replace_stage, results_table
from darts_ray.study.plan.probe import num_parameters
from darts_ray.study.plan.settings import (
    retrain_trials,
    search_trials,
    select_trials,
    setting_text,
)
from darts_ray.study.report.cell_drawing import draw_cell
from darts_ray.study.report.figures import alpha_history
from darts_ray.study.report.page import write_report
from darts_ray.study.run.exporting import NETWORK_FILE, export_network
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

STAGES = ("search", "select", "retrain", "export", "report")
TRAINING_STAGES = ("search", "select", "retrain")
MAX_FIGURES = 12
"""Searches whose cells and alphas are drawn for the tracking server; a picture takes a while."""


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
        self.record: dict[str, Any] = {
            "search": [],
            "winner": None,
            "retrain": [],
            "failed": [],
            "stages": {},
            **study.record,
        }
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
        trials = search_trials(self.config)
        epochs = max(int(trial.config["epochs"]) for trial in trials)
        info = self._data.info

        def take(outcomes: Sequence[TrialOutcome]) -> None:
            self.record["search"] = records.search_entries(
                outcomes, self._measure, lambda cell: num_parameters(self.config, cell, info)
            )

        self._train("search", SearchTrainable, trials, epochs, take)
        # why: also before a select stage, so that a study without any finished search ends here
        winner = records.choose_winner(self.record["search"], self._measure, selected=False)
        self._finish("search", winner if self.config.select is None else None)
        self._log_figures()

    def _select(self) -> None:
        self._need("search")
        assert self.config.select is not None
        found = records.candidates(self.record["search"])
        same = len(self.record["search"]) - len(found)
        agree = f" ({same} searches found a cell that another found too)" if same else ""
        self._say(f"select: {len(found)} distinct cells{agree}")
        trials = select_trials(self.config, found)

        def take(outcomes: Sequence[TrialOutcome]) -> None:
            entries = records.with_select_scores(self.record["search"], outcomes, self._measure)
            self.record["search"] = entries

        self._train("select", RetrainTrainable, trials, self.config.select.epochs, take)
        winner = records.choose_winner(self.record["search"], self._measure, selected=True)
        self._finish("select", winner)

    def _retrain(self) -> None:
        section = self.config.retrain
        assert section is not None
        if section.genotype is not None:
            config = self.config.retrain_config(section.genotype, section.seeds[0])
            self.record["winner"] = records.given_winner(config.parsed_genotype())
        else:
            self._need("search" if self.config.select is None else "select")
        winner = self.record["winner"]
        genotype = Genotype.from_dict(winner["genotype"])
        trials = retrain_trials(self.config, genotype, winner["setting"])

        def take(outcomes: Sequence[TrialOutcome]) -> None:
            self.record["retrain"] = records.retrain_entries(outcomes)

        self._train("retrain", RetrainTrainable, trials, section.epochs, take)
        self.record["stages"].pop("export", None)  # what was exported before is out of date
        self._log_weights()
        self._finish("retrain", winner)

    def _log_weights(self) -> None:
        """Keep every trained network, with its genotype, in its run."""
        if self._tracker is None:
            return
        for entry in self.record["retrain"]:
            with tempfile.TemporaryDirectory() as temporary:
                weights = Path(temporary, NETWORK_FILE)
                content = self.folder.read_bytes(f"{entry['checkpoint']}/{NETWORK_FILE}")
                weights.write_bytes(content)
                self._tracker.log_checkpoint(f"retrain/{entry['trial']}", weights)

    def _export(self) -> None:
        self._need("retrain")
        assert self.config.export is not None
        entry, reason = records.choose_exported(self.record["retrain"], self._measure)
        name = self.config.tracking.registered_model or self.config.name
        found = export_network(
            self.folder, entry, self.config.export, self._data, self._tracker, name
        )
        self.record["export"] = {**found, "reason": reason}
        self._say(
            f"export: {found['file']} agrees with torch within {found['max_difference']:.1e}"
        )
        if found["int8"] and "error" in found["int8"]:
            self._say(f"export: no int8 file was written: {found['int8']['error']}")

    def _report(self) -> None:
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
        self._note_time(stage, 0.0, finished=False, num_trials=len(trials))
        write_record(self.folder, self.record)
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
        others = [entry for entry in self.record["failed"] if entry["stage"] != stage]
        self.record["failed"] = [*others, *records.failures(stage, outcomes)]
        self._note_time(stage, seconds, finished=False)
        write_record(self.folder, self.record)

    def _finish(self, stage: str, winner: dict[str, Any] | None) -> None:
        """Count a stage as done, now that everything that follows from its trials is known."""
        is_new = winner is not None and winner != self.record["winner"]
        self.record["winner"] = winner or self.record["winner"]
        self._note_time(stage, 0.0, finished=True)
        write_record(self.folder, self.record)
        if is_new and winner is not None:
            self._say(f"winner: {winner['reason']}")

    def _note_time(
        self, stage: str, seconds: float, *, finished: bool, num_trials: int | None = None
    ) -> None:
        known = self.record["stages"].get(stage, {"seconds": 0.0, "num_trials": 0})
        self.record["stages"][stage] = {
            "seconds": round(known["seconds"] + seconds, 3),
            "num_trials": known["num_trials"] if num_trials is None else num_trials,
            "finished": finished,
        }

    def _need(self, stage: str) -> None:
        if not self.record["stages"].get(stage, {}).get("finished"):
            raise StudyError(
                f"{self.folder}: the stage {stage} has to be finished first; run it with"
                f" `darts-ray resume {self.folder}`, or a whole study with `darts-ray study`."
            )

    def _log_figures(self) -> None:
        """Give the tracked searches pictures of their cells and alphas."""
        if self._tracker is None:
            return
        alphas = read_alphas(self.folder)
        for entry in self.record["search"][:MAX_FIGURES]:
            genotype = Genotype.from_dict(entry["genotype"])
            rows = alphas_of(alphas, entry["trial"])
            for cell in genotype.cells():
                trial = f"search/{entry['trial']}"
                self._tracker.log_artifact(trial, f"{cell}.svg", draw_cell(genotype, cell))
                heatmap = alpha_history(rows, genotype, cell)
                self._tracker.log_artifact(trial, f"alphas_{cell}.png", heatmap)
