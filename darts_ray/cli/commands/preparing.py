"""Commands before a study: what there is, what it would cost, what this machine can do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from darts_ray import __version__
from darts_ray.cli.next_step import announce, command
from darts_ray.cli.options import AsJson, ConfigFile, Overrides
from darts_ray.cli.printing import duration, message, print_json, stderr, stdout
from darts_ray.config import load_config
from darts_ray.errors import ConfigError


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
    """List the shipped configurations, or copy one to edit.

    Example:  darts-ray init quickstart && darts-ray study quickstart.yaml
    """
    from darts_ray.config.reading.shipped import shipped_configs, write_config

    if name is not None:
        written = write_config(name, output, overwrite=force)
        if as_json:
            print_json({"file": str(written)})
            return
        message(f"Wrote {written}")
        announce(command(["plan", str(written)]))
        return
    configs = shipped_configs().values()
    if as_json:
        print_json([{"name": c.name, "summary": c.summary, "cost": c.cost} for c in configs])
        return
    table = Table(title="darts-ray init NAME", box=box.SIMPLE)
    for heading in ("name", "what it is", "cost"):
        table.add_column(heading, no_wrap=heading == "name")
    for config in configs:
        table.add_row(config.name, config.summary, config.cost)
    stdout.print(table)
    announce(command(["init", "quickstart"]))


def doctor(
    output: Annotated[Path, typer.Option(help="Folder that would hold studies.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Say what this machine has for a study, and what is missing.

    Example:  darts-ray doctor --output /mnt/shared/runs
    """
    from darts_ray.doctor import examine

    findings = examine(output)
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        table = Table(title="This machine")
        for heading in ("", "found", "remedy"):
            table.add_column(heading)
        for finding in findings:
            style = "red" if finding.blocking else "yellow" if finding.remedy else None
            table.add_row(finding.subject, finding.value, finding.remedy, style=style)
        stdout.print(table)
    blocked = any(finding.blocking for finding in findings)
    if not as_json:
        again = f"follow the remedies, then {command(['doctor', '--output', str(output)])}"
        announce(again if blocked else command(["init"]))
    if blocked:
        raise typer.Exit(2)


def plan(config: ConfigFile, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Print a study's trials, resources and time; run nothing.

    Example:  darts-ray plan quickstart.yaml --set seeds=0..9
    """
    from darts_ray.study import plan_study

    planned = plan_study(load_config(config, overrides or ()))
    if as_json:
        print_json({**asdict(planned), "hours": planned.hours, "gpu_hours": planned.gpu_hours})
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
            duration(stage.hours),
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
        f" estimated time of all stages: {duration(planned.hours)}{gpu_hours}."
    )
    for note in planned.notes:
        stdout.print(note)
    announce(command(["study", str(config)], overrides))


def bench(
    config: ConfigFile,
    overrides: Overrides = None,
    steps: Annotated[int, typer.Option(min=1, help="Measured steps per variant.")] = 5,
    variants: Annotated[bool, typer.Option(help="Try other options too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Measure time, memory and cost of a search on this machine.

    Example:  darts-ray bench quickstart.yaml --steps 20
    """
    from darts_ray.bench import StepCost
    from darts_ray.bench import bench as run_bench

    loaded = load_config(config, overrides or ())
    if loaded.search is None:
        raise ConfigError(f"{config}: has no search section to measure.")

    def show(cost: StepCost) -> None:
        stderr.print(f"measured {cost.variant}, {cost.order}: {cost.step_seconds:.3g} s per step")

    measured = run_bench(loaded, steps=steps, variants=variants, on_cost=show)
    if as_json:
        print_json(measured.to_dict())
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
            duration(cost.search_hours),
        )
    stdout.print(table)
    stdout.print(measured.advice)
    stdout.print(
        f"{measured.num_searches} searches, one after the other:"
        f" {duration(measured.study_search_hours)} on this device."
    )
    announce(command(["study", str(config)], overrides))


def version() -> None:
    """Print the version.

    Example:  darts-ray version
    """
    stdout.print(__version__)
    announce(command(["doctor"]), aside=True)
