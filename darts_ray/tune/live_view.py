"""What the user sees while trials run."""

from __future__ import annotations

from collections.abc import Callable

from ray.tune import Callback


class LiveView(Callback):
    """A live table on a terminal, plain lines otherwise.

    Args:
        stage: its name, for the title.
        num_trials: how many trials the stage has.
        epochs: epochs per trial.
        quiet: plain lines on a terminal too.
        on_message: receives the plain lines; default: standard output.
    """

    def __init__(
        self,
        stage: str,
        num_trials: int,
        epochs: int,
        *,
        quiet: bool = False,
        on_message: Callable[[str], None] | None = None,
    ) -> None: ...
