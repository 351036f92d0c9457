"""The command line as a whole: its commands, its exit codes, its one way to report an error."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from darts_ray.cli.commands import (
    comparing,
    judging,
    predicting,
    preparing,
    running,
    watching,
)
from darts_ray.cli.printing import stderr
from darts_ray.errors import ConfigError, DartsError
from darts_ray.location import redact

app = typer.Typer(
    help="Differentiable architecture search on Ray Tune: many seeds in parallel, exact second"
    " order, a verified ONNX network at the end.",
    epilog="Example:  darts-ray init quickstart && darts-ray study quickstart.yaml",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _common(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and the libraries' logs.")
    ] = False,
) -> None:
    _check_home()
    context.obj = {"debug": debug}
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(message)s"
    )


for _command in (
    preparing.init,
    preparing.doctor,
    preparing.plan,
    running.study,
    running.search,
    running.retrain,
    running.resume,
    watching.status,
    watching.list_,
    running.export,
    predicting.predict,
    judging.report,
    comparing.compare,
    judging.evaluate,
    preparing.bench,
    preparing.version,
):
    app.command(_command.__name__.rstrip("_"))(_command)


def _check_home() -> None:
    """Refuse to go on where `~` means nothing, because Ray cannot even be imported then."""
    try:
        Path.home()
    except RuntimeError as error:
        raise ConfigError(
            "HOME: is not set, and this user has no entry in the password file. Set it to a folder"
            " that can be written: HOME=/tmp/me darts-ray ..."
        ) from error


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
