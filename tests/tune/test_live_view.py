from __future__ import annotations

import io
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from darts_ray.tune import LiveView


def trial(name: str, status: str = "RUNNING", **result: Any) -> Any:
    metadata = SimpleNamespace(last_result=result)
    return SimpleNamespace(trial_id=name, status=status, run_metadata=metadata, last_result=result)


def report(view: LiveView, trials: list[Any], one: Any, **result: Any) -> None:
    view.on_trial_result(0, trials, one, result)
    one.run_metadata.last_result = one.last_result = result


def test_plain_lines_say_how_far_each_trial_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    clock = [0.0]
    monkeypatch.setattr("darts_ray.tune.live_view.time.monotonic", lambda: clock[0])
    view = LiveView("search", 3, 2, on_message=lines.append)
    view.setup()
    first, second = trial("a"), trial("b")
    before = trial("c", status="TERMINATED", epoch=2)  # finished before a resume
    trials = [first, second, before]
    clock[0] = 1000.0  # starting processes takes as long as it takes
    for one in (first, second):
        view.on_trial_start(0, trials, one)
    clock[0] += 10.0
    report(view, trials, first, epoch=1, validation_accuracy=0.5)
    clock[0] += 20.0
    report(view, trials, first, epoch=2, validation_accuracy=0.625)
    view.on_trial_complete(0, trials, first)
    view.on_trial_recover(0, trials, second)
    view.on_trial_error(0, trials, second)
    view.on_experiment_end(trials)
    assert lines == [
        "search a: epoch 1/2, validation accuracy 50.0 %, 0:00:30 left",
        "search a: epoch 2/2, validation accuracy 62.5 %, 0:00:30 left",
        "search a: epoch 2/2, validation accuracy 62.5 %: done",
        "search b: broke; it goes on from its last checkpoint",
        "search b: failed; the others go on",
    ]


def test_quiet_only_says_how_trials_end() -> None:
    lines: list[str] = []
    view = LiveView("select", 1, 1, quiet=True, on_message=lines.append)
    view.setup()
    one = trial("a")
    view.on_trial_start(0, [one], one)
    report(view, [one], one, epoch=1, validation_perplexity=80.123)
    view.on_trial_complete(0, [one], one)
    assert lines == ["select a: epoch 1/1, validation perplexity 80.12: done"]


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        "darts_ray.tune.live_view.Console",
        lambda: Console(file=screen, force_terminal=True, width=100),
    )
    view = LiveView("search", 30, 4)
    view.setup()
    trials = [trial(f"t{index:02d}", epoch=1) for index in range(25)]
    for one in trials:
        view.on_trial_start(0, trials, one)
    trials[1].status = "PAUSED"  # by a scheduler, until others have come as far
    view.on_trial_complete(0, trials, trials[0])
    view.on_experiment_end(trials)
    shown = screen.getvalue()
    assert "search: 1 of 30 done, 23 running, 0 failed" in shown
    assert "1/4" in shown
    assert "and 4 more" in shown


def test_tune_can_pickle_it_whatever_it_prints_to() -> None:
    view = LiveView("search", 1, 1, on_message=Console().print)
    view.setup()
    pickle.loads(pickle.dumps(view)).on_experiment_end([])
