"""What a command that ran a study says at its end."""

from __future__ import annotations

import statistics
from dataclasses import fields
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from darts_ray.cli.next_step import announce, command, opening, trying
from darts_ray.cli.printing import message, print_json, stderr, stdout

if TYPE_CHECKING:
    from darts_ray.study import StudyResult

SOME_TRIALS_FAILED = 3


def finish(result: StudyResult, *, as_json: bool = False) -> None:
    """Print the final table, where everything is and what to type next.

    Args:
        result: of the study.
        as_json: print the result as values instead.

    Raises:
        typer.Exit: with code 3, when trials have failed.
    """
    if as_json:
        winner = None if result.winner is None else result.winner.to_dict()
        values = {field.name: getattr(result, field.name) for field in fields(result)}
        print_json({**values, "winner": winner})
    else:
        _print(result)
    if result.failed:
        raise typer.Exit(SOME_TRIALS_FAILED)


def _print(result: StudyResult) -> None:
    if result.rows:
        table = Table(title="Results", box=box.SIMPLE)
        for heading in result.rows[0]:
            table.add_column(heading, no_wrap=heading == "setting")
        for row in result.rows:
            table.add_row(*row.values())
        stdout.print(table)
    if result.winner is not None:
        message(f"Winner: {result.winner_reason}")
    if result.test_scores:
        scores = list(result.test_scores.values())
        unit = "%" if result.test_metric == "test_accuracy" else ""
        shown = [100 * score if unit else score for score in scores]
        spread = f" ± {statistics.stdev(shown):.2f}" if len(shown) > 1 else ""
        each = ", ".join(f"{score:.2f}" for score in shown)
        name = result.test_metric.replace("_", " ").capitalize()
        message(f"{name}: {statistics.mean(shown):.2f}{spread} {unit} (each seed: {each})")
    if result.verification is not None:
        facts = ", ".join(f"{key} {value}" for key, value in result.verification.items())
        message(f"ONNX: {result.onnx} (checked against torch: {facts})")
    for failure in result.failed:
        stderr.print(
            f"[red]Failed:[/red] {failure['stage']} {failure['trial']}:",
            escape(str(failure["error"])),
            highlight=False,
        )
    times = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result.seconds.items())
    message(f"Time: {times}, {sum(result.seconds.values()):.0f} s in all")
    message(f"Study folder: {result.folder}")
    if result.report is not None:
        message(f"Report: {result.report}")
    announce(*_next_steps(result))


def _next_steps(result: StudyResult) -> list[str]:
    if result.failed:
        return [command(["resume", result.folder])]  # tries the failed trials again
    steps = [] if result.report is None else [opening(result.report)]
    if result.pending:
        return [*steps, command(["resume", result.folder])]
    if result.onnx is None:
        if result.test_scores:
            return [*steps, command(["export", result.folder])]
        return [*steps, command(["retrain", "CONFIG", "--genotype", result.folder])]
    if result.example is not None:
        steps.append(trying(result.onnx, result.example))
    return steps or [command(["report", result.folder])]
