"""Commands that carry a study on: all stages, one of them, or what an interruption left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from darts_ray.cli.finishing import finish
from darts_ray.cli.interruption import interruptible
from darts_ray.cli.options import AsJson, ConfigFile, Folder, Overrides, Quiet, Resume
from darts_ray.cli.printing import progress
from darts_ray.config import StudyConfig, build_config, load_config
from darts_ray.errors import ConfigError


def study(
    config: ConfigFile,
    overrides: Overrides = None,
    quiet: Quiet = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Run a study: search, select, retrain, export, report.

    Example:  darts-ray study quickstart.yaml --set seeds=0..4 --set output=/mnt/runs
    """
    _run(load_config(config, overrides or ()), None, quiet=quiet, resume=resume, as_json=as_json)


def search(
    config: ConfigFile,
    overrides: Overrides = None,
    quiet: Quiet = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Run the search stage alone: one trial per setting and seed.

    Example:  darts-ray search quickstart.yaml --set search.method=pc_darts
    """
    loaded = load_config(config, overrides or ())
    if loaded.search is None:
        raise ConfigError(f"{config}: has no search section.")
    _run(loaded, ("search", "report"), quiet=quiet, resume=resume, as_json=as_json)


def retrain(
    config: ConfigFile,
    genotype: Annotated[
        str | None,
        typer.Option(help="A published cell's name, a genotype file, or a study folder."),
    ] = None,
    overrides: Overrides = None,
    quiet: Quiet = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train one cell from scratch, test it once and export it.

    Example:  darts-ray retrain quickstart.yaml --genotype DARTS_V2 --set name=v2
    """
    from darts_ray.study.files.genotype_source import find_genotype

    loaded = load_config(config, overrides or ())
    if loaded.retrain is None:
        raise ConfigError(f"{config}: has no retrain section.")
    if genotype is not None:
        chosen = loaded.retrain.model_copy(update={"genotype": find_genotype(genotype).to_dict()})
        alone = loaded.model_copy(update={"retrain": chosen, "search": None, "select": None})
        loaded = build_config(alone.model_dump(), str(config))
    _run(loaded, ("retrain", "export", "report"), quiet=quiet, resume=resume, as_json=as_json)


def resume(
    folder: Folder,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a value, as seeds=0..9; see above."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Continue a study; what is finished stays finished.

    With --set, resources, tracking, tune's retries and checkpoints, and the
    export may change; seeds, settings and methods may be added. What finished
    trials were made with may not change.

    Example:  darts-ray resume runs/quickstart --set resources.max_concurrent=2
    """
    from darts_ray.study import resume_study

    with interruptible(folder):
        result = resume_study(
            folder, overrides=overrides or (), quiet=quiet or as_json, on_message=progress
        )
    finish(result, as_json=as_json)


def export(folder: Folder, quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Write a study's ONNX file again and check it against torch.

    Example:  darts-ray export runs/quickstart
    """
    from darts_ray.study import load_study

    config = load_study(folder).config
    if config.export is None:
        config = build_config({**config.model_dump(), "export": {}}, folder)
    _run(config, ("export", "report"), quiet=quiet, resume=True, as_json=as_json)


def _run(
    config: StudyConfig, stages: Sequence[str] | None, *, quiet: bool, resume: bool, as_json: bool
) -> None:
    from darts_ray.study import run_study

    with interruptible(f"{config.output.rstrip('/')}/{config.name}"):
        result = run_study(
            config, stages=stages, resume=resume, quiet=quiet or as_json, on_message=progress
        )
    finish(result, as_json=as_json)
