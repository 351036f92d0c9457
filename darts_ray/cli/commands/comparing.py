"""The command that sets studies side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from darts_ray.cli.next_step import announce, command, opening
from darts_ray.cli.options import AsJson
from darts_ray.cli.pages import check_page, write_page
from darts_ray.cli.printing import message, print_json, progress, stdout
from darts_ray.errors import ConfigError

if TYPE_CHECKING:
    from darts_ray.study import StudyComparison


def compare(
    folders: Annotated[list[str], typer.Argument(metavar="STUDY", help="Study folders or URIs.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the page to this FILE.html.")
    ] = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Although data or budgets differ; the page says so.")
    ] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The table as CSV.")] = False,
    as_latex: Annotated[
        bool, typer.Option("--latex", help="The table for a paper, with its caption (booktabs).")
    ] = False,
) -> None:
    """Compare the settings of several studies, paired by seed.

    Data, splits and budgets have to be equal; otherwise a difference of their
    scores says nothing about the methods.

    Example:  darts-ray compare runs/darts runs/pc-darts -o comparison.html
    """
    from darts_ray.study import compare_studies

    if as_json + as_csv + as_latex > 1:
        raise ConfigError("compare: --json, --csv and --latex exclude each other.")
    check_page(output)
    comparison = compare_studies(folders, anyway=anyway)
    if output is not None:
        from darts_ray.study.report.comparing.page import render_comparison

        write_page(output, render_comparison(comparison))
        progress(f"Page: {output}")
    if as_json:
        print_json(comparison.to_dict())
    elif as_csv or as_latex:
        from darts_ray.study.report.comparing.tables import to_csv, to_latex

        typer.echo(to_csv(comparison) if as_csv else to_latex(comparison), nl=False)
    else:
        _print(comparison)
        if output is None:
            announce(command(["compare", *folders, "-o", "comparison.html"]))
        else:
            announce(opening(str(output.resolve())))


def _print(comparison: StudyComparison) -> None:
    show, more = comparison.measure.show, comparison.measure.more_is_better
    for line in comparison.differences:
        stdout.print(f"[red]Not comparable:[/red] {escape(line)}", highlight=False)
    for note in comparison.robustness.notes:
        stdout.print(f"Note: {escape(note)}", highlight=False)
    table = Table(
        title=f"By {comparison.robustness.measured}",
        caption=f"Budget: {comparison.budget}",
        box=box.SIMPLE,
    )
    for heading in ("setting", "searches", "mean ± sd", "median", "worst", "95 % interval"):
        table.add_column(heading, no_wrap=heading == "setting")
    for item in comparison.robustness.settings:
        score = item.score
        number = f"{0 if score is None else score.n} of {comparison.num_planned[item.setting]}"
        if score is None:
            table.add_row(escape(item.setting), number)
            continue
        interval = "too few seeds"
        if score.low is not None and score.high is not None:
            interval = f"{show(score.low)} to {show(score.high)}"
        table.add_row(
            escape(item.setting),
            number,
            score.text(show),
            show(score.median),
            show(score.worst(more)),
            interval,
        )
    stdout.print(table)
    pairs = Table(title="Pairs, by seed", box=box.SIMPLE)
    for heading in ("settings", "n", "difference", "p (Holm)", "verdict"):
        pairs.add_column(heading)
    for pair in comparison.robustness.comparisons:
        pairs.add_row(
            escape(f"{pair.first} - {pair.second}"),
            str(pair.n),
            show(pair.difference) if pair.n else "-",
            "-" if pair.adjusted_p is None else f"{pair.adjusted_p:.3f}",
            pair.verdict,
        )
    stdout.print(pairs)
    for winner in comparison.winners:
        if winner.score is not None:
            message(
                f"Test {comparison.measure.title} of {winner.study}'s winner:"
                f" {winner.score.text(show)} over {winner.score.n} retrainings"
            )
