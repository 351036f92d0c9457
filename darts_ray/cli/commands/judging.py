"""Commands about what a study or a network is worth: its page, its test score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from darts_ray.cli.next_step import announce, command, opening
from darts_ray.cli.options import AsJson, Folder, Overrides
from darts_ray.cli.pages import check_page, write_page
from darts_ray.cli.printing import message, print_json, stdout
from darts_ray.config import load_dataset


def report(
    folder: Folder,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write FILE.html instead of the study's report.html."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's report.html again.

    Example:  darts-ray report runs/quickstart
    """
    check_page(output)
    if output is None:
        from darts_ray.study import write_report

        page = write_report(folder)
    else:  # also for who may read a study and not write into its folder
        from darts_ray.study import load_study
        from darts_ray.study.report.page import render_report

        write_page(output, render_report(load_study(folder)))
        page = str(output.resolve())
    if as_json:
        print_json({"report": page})
        return
    message(f"Report: {page}")
    announce(opening(page))


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt, or a file of the original code.")],
    data: Annotated[
        Path,
        typer.Option(
            help="YAML file whose data section names the dataset; it may be all there is."
        ),
    ],
    original: Annotated[
        bool,
        typer.Option(
            "--original",
            help="The file is a state dict of the original authors' code; the retrain section of"
            " the YAML file says of which network.",
        ),
    ] = False,
    genotype: Annotated[
        str | None,
        typer.Option(help="With --original: the cell's name, a genotype file, or a study."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Score a trained network on the test set of a dataset.

    Example:  darts-ray evaluate runs/quickstart/best.pt --data quickstart.yaml
    """
    from darts_ray.study.run.evaluating import evaluate_file

    config = load_dataset(data, overrides or ())
    metrics = evaluate_file(checkpoint, config, original=original, genotype=genotype)
    if as_json:
        print_json(metrics)
        return
    for name, value in metrics.items():
        stdout.print(f"{name}: {value:.6g}", highlight=False)
    words = ["evaluate", str(checkpoint), "--data", str(data)]
    words += ["--original"] if original else []
    words += ["--genotype", genotype] if genotype is not None else []
    announce(command([*words, "--json"], overrides), aside=True)
