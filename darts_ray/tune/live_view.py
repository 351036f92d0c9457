"""What the user sees while trials run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

SCORES = ("validation_accuracy", "validation_perplexity", "train_accuracy")
"""The metric that matters, by preference; retraining on all data has training accuracy only."""

MAX_ROWS = 20
REFRESH_SECONDS = 0.5
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"


class LiveView(Callback):
    """A live table on a terminal, plain lines otherwise.

    A plain line is written per finished or failed trial, and about ten times per trial on its
    way, so that a log shows life without drowning.

    Args:
        stage: its name, for the title.
        num_trials: how many trials the stage has.
        epochs: epochs per trial.
        quiet: plain lines on a terminal too, and only where a trial ends.
        on_message: receives the plain lines; default: standard output.
    """

    def __init__(
        self,
        stage: str,
        num_trials: int,
        epochs: int,
        *,
        quiet: bool = False,
        on_message: Callable[[str], None] | None = None,
    ) -> None:
        self._stage = stage
        self._num_trials = num_trials
        self._epochs = epochs
        self._quiet = quiet
        self._say = on_message
        self._console: Console | None = None
        self._live: Live | None = None
        self._started = time.monotonic()
        self._epochs_before: int | None = None
        self._last_drawn = 0.0
        self._states: dict[str, str] = {}
        self._seen: dict[str, tuple[int, str]] = {}  # epoch and score

    def setup(self, *args: Any, **info: Any) -> None:
        """Begin to show the stage."""
        self._console = Console()
        self._started = time.monotonic()
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Show that a trial runs."""
        if not self._states:
            self._started = time.monotonic()  # what came before was the start of processes
        self._states[trial.trial_id] = RUNNING
        self._draw(trials)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Show an epoch."""
        self._seen[trial.trial_id] = int(result.get("epoch", 0)), _score(result)
        every = max(1, self._epochs // 10)
        if self._live is None and not self._quiet and result.get("epoch", 0) % every == 0:
            self._print(f"{self._label(trial, result)}, {self._remaining(trials)}")
        self._draw(trials)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Show that a trial is done."""
        self._states[trial.trial_id] = DONE
        if self._live is None:
            self._print(f"{self._label(trial, trial.last_result)}: done")
        self._draw(trials, now=True)

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Say that a trial broke and goes on from its last checkpoint."""
        self._print(f"{self._stage} {trial.trial_id}: broke; it goes on from its last checkpoint")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Say that a trial failed for good."""
        self._states[trial.trial_id] = FAILED
        self._print(f"{self._stage} {trial.trial_id}: failed; the others go on")
        self._draw(trials, now=True)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Leave the last table on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the terminal and the message function; Tune pickles a copy it never uses."""
        return {**self.__dict__, "_say": None, "_console": None, "_live": None}

    def _print(self, line: str) -> None:
        if self._say is not None:
            self._say(line)
        elif self._console is not None:
            self._console.print(line, highlight=False, soft_wrap=True)

    def _draw(self, trials: list[Trial], *, now: bool = False) -> None:
        if self._epochs_before is None:
            self._epochs_before = sum(map(self._epoch, trials))
        if self._live is None:
            return
        if now or time.monotonic() - self._last_drawn >= REFRESH_SECONDS:
            self._live.update(self._table(trials), refresh=True)
            self._last_drawn = time.monotonic()

    def _state(self, trial: Trial) -> str:
        """Return a trial's state; one that ended before this driver began has no events."""
        if trial.status == Trial.PAUSED:
            return WAITING
        ended = DONE if trial.status == Trial.TERMINATED else WAITING
        return self._states.get(trial.trial_id, ended)

    def _table(self, trials: list[Trial]) -> Group:
        states = {trial.trial_id: self._state(trial) for trial in trials}
        count = Counter(states.values())
        title = (
            f"{self._stage}: {count[DONE]} of {self._num_trials} done,"
            f" {count[RUNNING]} running, {count[FAILED]} failed, {self._remaining(trials)}"
        )
        table = Table()
        for heading in ("trial", "state", "epoch", "score"):
            table.add_column(heading, justify="left" if heading in ("trial", "state") else "right")
        order = (RUNNING, FAILED, DONE)
        shown = sorted(
            (trial for trial in trials if states[trial.trial_id] in order),
            key=lambda trial: (order.index(states[trial.trial_id]), trial.trial_id),
        )
        for trial in shown[:MAX_ROWS]:
            epoch = f"{self._epoch(trial)}/{self._epochs}"
            # Tune takes a result over only after telling its callbacks
            _, score = self._seen.get(trial.trial_id, (0, ""))
            score = score or _score(trial.run_metadata.last_result)
            table.add_row(trial.trial_id, states[trial.trial_id], epoch, score)
        if len(shown) > MAX_ROWS:
            table.add_row(f"and {len(shown) - MAX_ROWS} more", "", "", "")
        return Group(Text(title), table)  # a table would break its own title to its width

    def _epoch(self, trial: Trial) -> int:
        """Return how many epochs a trial has done, those before this driver began included."""
        before = int(trial.run_metadata.last_result.get("epoch", 0))
        return max(before, self._seen.get(trial.trial_id, (0, ""))[0])

    def _label(self, trial: Trial, result: Mapping[str, Any]) -> str:
        epoch = f"epoch {result.get('epoch', 0)}/{self._epochs}"
        score = _score(result)
        return f"{self._stage} {trial.trial_id}: {epoch}{', ' if score else ''}{score}"

    def _remaining(self, trials: list[Trial]) -> str:
        """Return the time left at the pace so far; trials that ended early need no more."""
        done = sum(map(self._epoch, trials)) - (self._epochs_before or 0)
        ended = [trial for trial in trials if self._state(trial) in (DONE, FAILED)]
        running = sum(self._epoch(trial) for trial in trials if trial not in ended)
        left = max(0, (self._num_trials - len(ended)) * self._epochs - running)
        if done <= 0:
            return "time left unknown"
        seconds = (time.monotonic() - self._started) / done * left
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left"


def _score(result: Mapping[str, Any]) -> str:
    for name in SCORES:
        if name in result:
            value = float(result[name])
            shown = f"{100 * value:.1f} %" if name.endswith("accuracy") else f"{value:.2f}"
            return f"{name.replace('_', ' ')} {shown}"
    return ""
