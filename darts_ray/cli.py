"""The `darts-ray` command: parse, load the configuration, one library call, print."""

from __future__ import annotations

import json
import logging
import os
import signal
import statistics
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from darts_ray import __version__
from darts_ray.config import StudyConfig, build_config, load_config
from darts_ray.errors import ConfigError, DartsError, Terminated
from darts_ray.location import redact
from darts_ray.predict import predict

if TYPE_CHECKING:
    from darts_ray.study import StudyResult

# The rooms that import torch, Ray or MLflow are imported by the command that needs them, so that
# `--help` and a wrong configuration answer at once.

app = typer.Typer(
    help="Differentiable architecture search on Ray Tune: many seeds in parallel, exact second"
    " order, a verified ONNX network at the end.",
    epilog="Start with:  darts-ray study configs/quickstart.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path, typer.Argument(help="YAML file, such as configs/quickstart.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value, as data.path=/data/x."),
]
Folder = Annotated[str, typer.Argument(metavar="STUDY", help="Study folder or URI.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Plain lines, no live view.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on if the study already exists.")]

SOME_TRIALS_FAILED = 3
INTERRUPTED = 130  # what a shell reports for Ctrl-C
TERMINATED = 143  # and for SIGTERM

stdout = Console()
stderr = Console(stderr=True)


@app.callback()
def _common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option(help="Show tracebacks and the libraries' logs.")] = False,
) -> None:
    _check_home()
    context.obj = {"debug": debug}
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s"
    )


@app.command()
def init(
    name: Annotated[
        str | None, typer.Argument(help="A configuration to copy; without it, list them.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The new file, or a folder for it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the configurations that come with the package, or copy one to edit.

    Example:  darts-ray init quickstart && darts-ray study quickstart.yaml
    """
    from darts_ray.config.reading.shipped import shipped_configs, write_config

    if name is not None:
        written = write_config(name, output, overwrite=force)
        if as_json:
            _print_json({"file": str(written)})
            return
        _message(f"Wrote {written}. Next:  darts-ray plan {written}")
        return
    configs = shipped_configs().values()
    if as_json:
        _print_json([{"name": c.name, "summary": c.summary, "cost": c.cost} for c in configs])
        return
    table = Table(title="darts-ray init NAME", box=box.SIMPLE)
    for heading in ("name", "what it is", "cost"):
        table.add_column(heading, no_wrap=heading == "name")
    for config in configs:
        table.add_row(config.name, config.summary, config.cost)
    stdout.print(table)


@app.command()
def doctor(
    output: Annotated[Path, typer.Option(help="Folder that would hold studies.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Say what this machine has for a study, and what is missing."""
    from darts_ray.doctor import examine

    findings = examine(output)
    if as_json:
        _print_json([vars(finding) for finding in findings])
    else:
        table = Table(title="This machine")
        for heading in ("", "found", "remedy"):
            table.add_column(heading)
        for finding in findings:
            style = "red" if finding.blocking else "yellow" if finding.remedy else None
            table.add_row(finding.subject, finding.value, finding.remedy, style=style)
        stdout.print(table)
    if any(finding.blocking for finding in findings):
        raise typer.Exit(2)


@app.command()
def plan(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print trials, resources and estimated time of a study without running it."""
    from darts_ray.study import plan_study

    planned = plan_study(load_config(config, overrides or ()))
    if as_json:
        _print_json({**asdict(planned), "hours": planned.hours, "gpu_hours": planned.gpu_hours})
        return
    table = Table(title=f"{planned.folder}")
    for heading in ("stage", "trials", "at a time", "epochs each", "time", "checkpoints"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage in planned.stages:
        table.add_row(
            stage.stage,
            str(stage.num_trials),
            str(stage.concurrent),
            str(stage.epochs),
            _duration(stage.hours),
            f"{stage.storage_bytes / 2**20:.0f} MiB",
        )
    stdout.print(table)
    settings = f"Settings: {'; '.join(planned.settings)}. " if planned.settings else ""
    stdout.print(f"{settings}Seeds: {', '.join(map(str, planned.seeds))}.")
    gpu_hours = ""
    if planned.gpus_per_trial:
        known = planned.gpu_hours
        gpu_hours = f", {'unknown' if known is None else f'{known:.1f}'} GPU-hours"
    stdout.print(
        f"Each trial gets {planned.cpus_per_trial:g} CPUs and {planned.gpus_per_trial:g} GPUs;"
        f" estimated time of all stages: {_duration(planned.hours)}{gpu_hours}."
    )
    for note in planned.notes:
        stdout.print(note)


@app.command()
def study(
    config: ConfigFile, overrides: Overrides = None, quiet: Quiet = False, resume: Resume = False
) -> None:
    """Run every stage of a study: search, select, retrain, export, report."""
    _run(load_config(config, overrides or ()), None, quiet=quiet, resume=resume)


@app.command()
def search(
    config: ConfigFile, overrides: Overrides = None, quiet: Quiet = False, resume: Resume = False
) -> None:
    """Run the search stage alone: one trial per setting and seed."""
    loaded = load_config(config, overrides or ())
    if loaded.search is None:
        raise ConfigError(f"{config}: has no search section.")
    _run(loaded, ("search", "report"), quiet=quiet, resume=resume)


@app.command()
def retrain(
    config: ConfigFile,
    genotype: Annotated[
        str | None,
        typer.Option(help="A published cell's name, a genotype file, or a study folder."),
    ] = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
    resume: Resume = False,
) -> None:
    """Train one cell from scratch, test it once and export it."""
    from darts_ray.study.files.genotype_source import find_genotype

    loaded = load_config(config, overrides or ())
    if loaded.retrain is None:
        raise ConfigError(f"{config}: has no retrain section.")
    if genotype is not None:
        chosen = loaded.retrain.model_copy(update={"genotype": find_genotype(genotype).to_dict()})
        alone = loaded.model_copy(update={"retrain": chosen, "search": None, "select": None})
        loaded = build_config(alone.model_dump(), str(config))
    _run(loaded, ("retrain", "export", "report"), quiet=quiet, resume=resume)


@app.command()
def resume(folder: Folder, quiet: Quiet = False) -> None:
    """Continue a study after an interruption; what is finished stays finished."""
    from darts_ray.study import resume_study

    with _interruptible(folder):
        result = resume_study(folder, quiet=quiet, on_message=_message)
    _finish(result)


@app.command()
def export(folder: Folder, quiet: Quiet = False) -> None:
    """Write a study's ONNX file again and check it against torch."""
    from darts_ray.study import load_study

    config = load_study(folder).config
    if config.export is None:
        config = build_config({**config.model_dump(), "export": {}}, folder)
    _run(config, ("export", "report"), quiet=quiet, resume=True)


app.command()(predict)


@app.command()
def report(folder: Folder) -> None:
    """Write a study's report.html again."""
    from darts_ray.study import write_report

    stdout.print(f"Report: {write_report(folder)}")


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt, or a file of the original code.")],
    data: Annotated[Path, typer.Option(help="YAML file whose data section names the dataset.")],
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
    """Score a trained network on the test set of a dataset."""
    from darts_ray.study.run.evaluating import evaluate_file

    config = load_config(data, overrides or ())
    metrics = evaluate_file(checkpoint, config, original=original, genotype=genotype)
    if as_json:
        _print_json(metrics)
        return
    for name, value in metrics.items():
        stdout.print(f"{name}: {value:.6g}", highlight=False)


@app.command()
def bench(
    config: ConfigFile,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(min=1, help="Measured steps per variant.")] = 5,
    variants: Annotated[bool, typer.Option(help="Try other options too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Measure step time, memory and projected cost of a search on this machine."""
    from darts_ray.bench import StepCost
    from darts_ray.bench import bench as run_bench

    loaded = load_config(config, overrides or ())
    if loaded.search is None:
        raise ConfigError(f"{config}: has no search section to measure.")

    def show(cost: StepCost) -> None:
        stderr.print(f"measured {cost.variant}, {cost.order}: {cost.step_seconds:.3g} s per step")

    measured = run_bench(loaded, steps=steps, variants=variants, on_cost=show)
    if as_json:
        _print_json(measured.to_dict())
        return
    table = Table(title=f"{loaded.name} on {measured.costs[0].device}")
    for heading in ("variant", "order", "s / step", "samples / s", "peak MiB", "one search"):
        table.add_column(heading, justify="left" if heading in ("variant", "order") else "right")
    for cost in measured.costs:
        if cost.error is not None:
            table.add_row(cost.variant, cost.order, f"failed: {cost.error}")
            continue
        table.add_row(
            cost.variant,
            cost.order,
            f"{cost.step_seconds:.3g}",
            f"{cost.samples_per_second:.4g}",
            f"{cost.peak_memory_bytes / 2**20:.0f}",
            _duration(cost.search_hours),
        )
    stdout.print(table)
    stdout.print(measured.advice)
    stdout.print(
        f"{measured.num_searches} searches, one after the other:"
        f" {_duration(measured.study_search_hours)} on this device."
    )


@app.command()
def version() -> None:
    """Print the version."""
    stdout.print(__version__)


def _check_home() -> None:
    """Refuse to go on where `~` means nothing, because Ray cannot even be imported then."""
    try:
        Path.home()
    except RuntimeError as error:
        raise ConfigError(
            "HOME: is not set, and this user has no entry in the password file. Set it to a folder"
            " that can be written: HOME=/tmp/me darts-ray ..."
        ) from error


def _run(config: StudyConfig, stages: Sequence[str] | None, *, quiet: bool, resume: bool) -> None:
    from darts_ray.study import run_study

    with _interruptible(f"{config.output.rstrip('/')}/{config.name}"):
        result = run_study(config, stages=stages, resume=resume, quiet=quiet, on_message=_message)
    _finish(result)


@contextmanager
def _interruptible(folder: str) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one line that says how to go on."""
    before = signal.getsignal(signal.SIGTERM)
    in_main = threading.current_thread() is threading.main_thread()
    if in_main:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as interruption:
        text = f"what is finished is kept. Go on with:  darts-ray resume {folder}"
        if "://" not in folder and not Path(folder, "study.yaml").exists():
            text = "nothing had been started."
        terminated = isinstance(interruption, Terminated)
        what = "Terminated" if terminated else "Interrupted"
        stderr.print(f"{what}; {text}", soft_wrap=True)
        raise typer.Exit(TERMINATED if terminated else INTERRUPTED) from None
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


def _finish(result: StudyResult) -> None:
    """Print the final table, where everything is and what to type next."""
    if result.rows:
        table = Table(title="Results", box=box.SIMPLE)
        for heading in result.rows[0]:
            table.add_column(heading, no_wrap=heading == "setting")
        for row in result.rows:
            table.add_row(*row.values())
        stdout.print(table)
    if result.winner is not None:
        _message(f"Winner: {result.winner_reason}")
    if result.test_scores:
        scores = list(result.test_scores.values())
        unit = "%" if result.test_metric == "test_accuracy" else ""
        shown = [100 * score if unit else score for score in scores]
        spread = f" ± {statistics.stdev(shown):.2f}" if len(shown) > 1 else ""
        each = ", ".join(f"{score:.2f}" for score in shown)
        name = result.test_metric.replace("_", " ").capitalize()
        _message(f"{name}: {statistics.mean(shown):.2f}{spread} {unit} (each seed: {each})")
    if result.verification is not None:
        facts = ", ".join(f"{key} {value}" for key, value in result.verification.items())
        _message(f"ONNX: {result.onnx} (checked against torch: {facts})")
    for failure in result.failed:
        stderr.print(
            f"[red]Failed:[/red] {failure['stage']} {failure['trial']}:",
            escape(str(failure["error"])),
            highlight=False,
        )
    times = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result.seconds.items())
    _message(f"Time: {times}, {sum(result.seconds.values()):.0f} s in all")
    _message(f"Study folder: {result.folder}")
    if result.report is not None:
        _message(f"Report: {result.report}")
    _message(f"Next: {_next_command(result)}")
    if result.failed:
        raise typer.Exit(SOME_TRIALS_FAILED)


def _next_command(result: StudyResult) -> str:
    if result.failed:
        return f"darts-ray resume {result.folder}   # tries the failed trials again"
    if result.onnx is not None:
        return f"open {result.report}" if result.report else f"darts-ray report {result.folder}"
    if result.test_scores:
        return f"darts-ray export {result.folder}"
    return f"darts-ray retrain CONFIG --genotype {result.folder}"


def _message(text: str) -> None:
    stdout.print(text, highlight=False, soft_wrap=True)


def _print_json(values: Any) -> None:
    stdout.print_json(json.dumps(values))


def _duration(hours: float | None) -> str:
    if hours is None:
        return "?"
    if hours < 1 / 30:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    0 done, 1 a run failed, 2 the input is wrong and nothing was started, 3 finished but some
    trials failed, 130 interrupted, 143 terminated.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        app(words, prog_name="darts-ray")
    except SystemExit as done:  # how typer reports usage errors and typer.Exit
        return done.code if isinstance(done.code, int) else 1
    except DartsError as error:
        if "--debug" in words:
            raise
        text = escape(redact(str(error)))
        stderr.print("[red]Error:[/red]", text, highlight=False, soft_wrap=True)
        return error.exit_code
    return 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())


if __name__ == "__main__":
    main()
