"""Keeps record and tables on disk in step with what the stages do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from darts_ray.benchmarks import nasbench201
from darts_ray.study.files import entries
from darts_ray.study.files.exported import EXPORTED_FILES
from darts_ray.study.files.record import Record, Winner
from darts_ray.study.files.study import (
    ALPHAS_FILE,
    RESULTS_FILE,
    TABLE_FILE,
    Study,
    write_record,
)
from darts_ray.study.files.tables import alphas_table, replace_stage, results_table
from darts_ray.study.plan.truth import own_table
from darts_ray.tune import TrialOutcome


class Keeper:
    """The record in memory, and the only writer of it.

    Args:
        study: the study's files as they are.
        say: receives one plain line per event.

    Attributes:
        record: content of genotypes.json, with what the next write will add.
        has_begun: whether a stage has changed anything yet.
    """

    def __init__(self, study: Study, say: Callable[[str], None]) -> None:
        self.record: Record = study.record
        self.has_begun = False
        self._folder = study.folder
        self._config = study.config
        self._results: pa.Table = study.results_table
        self._say = say
        section = study.config.retrain
        self._keeps_retrained = section is not None and section.cells != "winner"

    @property
    def results(self) -> pa.Table:
        """Content of results.parquet."""
        return self._results

    def change(self, **changes: Any) -> None:
        """Change fields of the record; the next write makes it durable."""
        self.record = replace(self.record, **changes)

    def write(self) -> None:
        """Write the record."""
        write_record(self._folder, self.record)

    def begin(self, stage: str, num_trials: int) -> None:
        """Mark a stage and all later ones as not done, in one write, before anything changes."""
        self.has_begun = True
        self.record = self.record.beginning(stage, num_trials)
        self.write()

    def save(self, stage: str, outcomes: Sequence[TrialOutcome], seconds: float) -> None:
        """Write tables and record; the stage does not count as done yet."""
        self.write_rows(stage, results_table(stage, outcomes))
        if stage == "search":
            self._folder.write_table(ALPHAS_FILE, alphas_table(outcomes))
        others = (entry for entry in self.record.failed if entry.stage != stage)
        self.change(failed=(*others, *entries.failures(stage, outcomes)))
        self.note_time(stage, seconds, finished=False)

    def finish(self, stage: str, winner: Winner | None) -> None:
        """Count a stage as done, now that everything that follows from its trials is known."""
        is_new = winner is not None and winner != self.record.winner
        if winner is not None:
            self.set_winner(winner)
        self.note_time(stage, 0.0, finished=True)
        if is_new and winner is not None:
            self._say(f"winner: {winner.reason}")

    def set_winner(self, winner: Winner) -> None:
        """Replace the winner in the record; files of another cell go before it is written."""
        before = self.record.export
        self.record = self.record.with_winner(winner, keeps_retrained=self._keeps_retrained)
        if self.record.export is None and before is not None:
            self.forget_export()

    def forget_export(self) -> None:
        """Remove the exported files; a record that names none is what the next write says."""
        self.change(export=None)
        for name in EXPORTED_FILES:
            self._folder.delete(name)

    def keep_table(self) -> nasbench201.Table | None:
        """Copy the study's own table of true accuracies into its folder, and return it.

        The report needs it, on machines too that the original is not on.

        Returns:
            None where the study names no table, so that the shipped one is meant.

        Raises:
            ConfigError: the table cannot be read.
        """
        table = own_table(self._config)
        if table is None:
            self._folder.delete(TABLE_FILE)
            return None
        self._say(f"benchmark: reads {table.name}; if that is NATS-Bench's folder, for minutes")
        content = table.to_arrow()
        self._folder.write_table(TABLE_FILE, content)
        return nasbench201.ColumnTable.from_arrow(table.name, content)

    def note_time(self, stage: str, seconds: float, *, finished: bool) -> None:
        """Add to a stage's wall time, say whether it is done, and write the record."""
        before = self.record.stages[stage].seconds if stage in self.record.stages else 0.0
        self.record = self.record.with_stage(
            stage, seconds=round(before + seconds, 3), finished=finished
        )
        self.write()

    def write_rows(self, stage: str, rows: pa.Table) -> None:
        """Replace a stage's rows in results.parquet."""
        self._results = replace_stage(self._results, rows, stage)
        self._folder.write_table(RESULTS_FILE, self._results)
