"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(help="YAML file, such as configs/quickstart.yaml.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value, as data.path=/data/x."),
]
Folder = Annotated[str, typer.Argument(metavar="STUDY", help="Study folder or URI.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Plain lines, no live view.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on if the study already exists.")]
