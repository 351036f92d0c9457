"""Commands that look at studies from any machine that sees their folders."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from darts_ray.cli.next_step import announce, command
from darts_ray.cli.options import AsJson, Folder
from darts_ray.cli.printing import age, duration, message, print_json, score, stdout

if TYPE_CHECKING:
    from darts_ray.study import StudyStatus

MAX_ROWS = 20


def status(
    folder: Folder,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Again and again, until it has ended.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between looks.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Say how far a study is, from any machine that sees its folder.

    Only files are read: no lock is touched, and Ray is not asked. A trial's epoch
    is that of its newest checkpoint; the time left is that of the present stage,
    at its pace so far.

    Example:  darts-ray status runs/quickstart --watch
    """
    from darts_ray.study import study_status

    seen = first = study_status(folder)
    if not as_json and watch and stdout.is_terminal:
        with Live(_view(seen), console=stdout, auto_refresh=False) as live:
            for seen in _until_ended(first, every):
                live.update(_view(seen), refresh=True)
    elif watch:
        for seen in _until_ended(first, every):
            if as_json:
                typer.echo(json.dumps(seen.to_dict()))
            else:
                stdout.print(_view(seen))
    elif as_json:
        print_json(seen.to_dict())
    else:
        stdout.print(_view(seen))
    if not as_json:
        announce(_next(seen))


def list_(
    output: Annotated[
        str, typer.Argument(metavar="[OUTPUT]", help="Folder or URI that holds studies.")
    ] = "runs",
    as_json: AsJson = False,
) -> None:
    """List the studies below an output folder, one line each.

    Example:  darts-ray list runs
    """
    from darts_ray.study import list_studies

    lines = list_studies(output)
    if as_json:
        print_json([asdict(line) for line in lines])
        return
    if not lines:
        message(f"No study below {output}.")
        announce(command(["init", "quickstart"]))
        return
    table = Table(box=box.SIMPLE)
    for heading in ("study", "state", "stage", "trials", "winner", "test", "last change"):
        table.add_column(heading, no_wrap=heading in ("state", "stage"))
    for line in lines:
        lost = f", {line.failed} failed" if line.failed else ""
        table.add_row(
            escape(line.name),
            line.state,
            line.stage or "-",
            f"{line.done} of {line.trials}{lost}",
            escape(line.winner or line.error or "-"),
            score(line.test_metric, line.test_mean, line.test_std),
            age(line.last_change),
            style="red" if line.error is not None else None,
        )
    stdout.print(table)
    for line in lines:
        if line.verdict is not None:
            stdout.print(f"{escape(line.name)}: {escape(line.verdict)}", highlight=False)
    newest = max(lines, key=lambda line: line.last_change or 0.0)
    announce(command(["status", newest.folder]))


def _until_ended(seen: StudyStatus, every: float) -> Iterator[StudyStatus]:
    """Yield a study's state again and again; Ctrl-C is how watching ends before the study."""
    from darts_ray.study import study_status

    try:
        yield seen
        while seen.state in ("running", "not started"):
            time.sleep(every)
            seen = study_status(seen.folder)
            yield seen
    except KeyboardInterrupt:
        return


def _view(seen: StudyStatus) -> RenderableType:
    """Return a study's state for a terminal."""
    parts: list[RenderableType] = [Text(f"{seen.folder}: {seen.state}"), Text(_driver(seen))]
    table = Table(box=box.SIMPLE)
    for heading in ("stage", "state", "done", "running", "failed", "waiting", "time", "left"):
        justify = "left" if heading in ("stage", "state") else "right"
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # a str of two
    for stage in seen.stages:
        waiting = stage.count("waiting") + stage.count("interrupted")
        number = str(stage.num_trials) if stage.num_trials is not None else "?"
        trains = stage.num_trials != 0
        table.add_row(
            stage.name,
            stage.state,
            f"{stage.count('done')} of {number}" if trains else "",
            str(stage.count("running")) if trains else "",
            str(stage.count("failed")) if trains else "",
            str(waiting) if trains else "",
            duration(stage.seconds / 3600) if stage.seconds else "-",
            duration(stage.seconds_left / 3600) if stage.seconds_left else "-",
        )
    parts.append(table)
    open_trials = [
        (stage.name, trial)
        for stage in seen.stages
        for trial in stage.trials
        if trial.state in ("running", "interrupted")
    ]
    if open_trials:
        table = Table(box=box.SIMPLE)
        for heading in ("trial", "setting", "state", "epoch", "score", "last change"):
            table.add_column(heading)
        for name, trial in open_trials[:MAX_ROWS]:
            table.add_row(
                f"{name}/{trial.name}",
                escape(trial.setting),
                trial.state,
                f"{trial.epoch} of {trial.epochs}",
                score(trial.score_name, trial.score),
                age(trial.last_change),
            )
        parts.append(table)
        if len(open_trials) > MAX_ROWS:
            parts.append(Text(f"and {len(open_trials) - MAX_ROWS} more"))
    for name, trial in seen.failed[:MAX_ROWS]:
        parts.append(Text(f"Failed: {name}/{trial.name}: {trial.error}", style="red"))
    if len(seen.failed) > MAX_ROWS:
        parts.append(Text(f"and {len(seen.failed) - MAX_ROWS} more failed"))
    if seen.winner is not None:
        parts.append(Text(f"Winner: {seen.winner}"))
    if seen.test_scores:
        each = ", ".join(
            f"{score(seen.test_metric, value)} (seed {seed})"
            for seed, value in seen.test_scores.items()
        )
        parts.append(Text(f"{seen.test_metric.replace('_', ' ').capitalize()}: {each}"))
    return Group(*parts)


def _driver(seen: StudyStatus) -> str:
    driver = seen.driver
    where = f" on {driver.host} (process {driver.pid})" if driver.host is not None else ""
    what = {
        "working": f"Its driver{where} is at work",
        "died": f"Its driver{where} has died",
        "unknown": f"Its driver{where} was at work lately",
        "silent": f"Its driver{where} is silent: it has died, or waits for something",
        "none": "No driver is at work",
    }[driver.state]
    return f"{what}; last sign of life: {age(driver.last_sign)}."


def _next(seen: StudyStatus) -> str:
    if seen.state == "running":
        return command(["status", seen.folder, "--watch"])
    if seen.state == "finished" and not seen.failed:
        return command(["report", seen.folder])
    return command(["resume", seen.folder])
